import numpy as np
import pyarrow as pa
import pytest
from made_sweeps import everything, sweep

from selfrepair.statistics.accumulate import QUANTITIES
from selfrepair.statistics.bootstrap import bootstrap_filtered, document_weights
from selfrepair.statistics.filters import Filter
from selfrepair.statistics.keep import TOKEN_SCHEMA, KeptTokens, in_sample, token_table, uniform_sample
from selfrepair.statistics.keep_limits import SPREADS, keep_thresholds, spreads_kept


def keeper(made, sample=7, seed=0):
    limits = keep_thresholds(made.filters, made.survey, made.documents[made.scored])
    numbers = np.arange(len(made.scored))
    sampled = in_sample(uniform_sample(made.scored, sample, seed), numbers, made.scored.shape[1])
    return KeptTokens(made.filters, limits, made.tokens, made.documents, made.scored, sampled, numbers)


def names(made):
    return [f"document {number}" for number in range(made.documents.max() + 1)]


def arrays(made, chunks, **settings):
    collected = keeper(made, **settings)
    for chunk in chunks:
        collected.add(made.chunk(*chunk))
    return collected.arrays()


def kept(made, chunks, **settings):
    """The rows of all layers as one table."""
    found, tables = arrays(made, chunks, **settings), []
    for layer in sorted({int(name.split("/")[1]) for name in found}):
        prefix = f"rows/{layer}/"
        rows = {name.removeprefix(prefix): values for name, values in found.items() if name.startswith(prefix)}
        tables.append(token_table(rows, names(made), made.filters))
    return pa.concat_tables(tables).unify_dictionaries()


def large():
    return sweep(seed=1, windows=10, positions=20, filters=(Filter("top", 0.05), Filter("bottom", 0.1)))


def test_each_head_keeps_twice_the_filters_share_and_the_sample(monkeypatch):
    monkeypatch.setattr("selfrepair.statistics.keep_limits.EXACT", 0)  # as in a large corpus
    made = large()
    frame = kept(made, everything(made)).to_pandas()
    tokens = made.scored.sum()
    for _, rows in frame.groupby(["layer", "head"]):
        assert (rows.kept_as == "top").sum() == int(0.1 * tokens)
        assert (rows.kept_as == "bottom").sum() == int(0.2 * tokens)
        assert rows.in_sample.sum() == 7
        assert not rows.duplicated(["window", "position"]).any()
        assert rows.direct_effect[rows.kept_as == "top"].min() > rows.direct_effect[rows.kept_as == "sample"].max()
    assert frame.in_sample[frame.kept_as == "sample"].all()


@pytest.mark.parametrize("seed", range(6))
def test_no_resampling_of_a_small_corpus_lacks_tokens(seed):
    """Documents of different levels and sizes: a resampled corpus takes tokens that the corpus itself would not."""
    draws = np.random.default_rng(seed)
    sizes = draws.integers(3, 40, 7)
    documents = np.repeat(np.arange(7), sizes)
    effects = (draws.normal(size=7)[documents] * 2 + draws.normal(size=len(documents))).astype(np.float32)
    fraction, weights = 0.07, np.concatenate([document_weights(7, 300, seed), 7 * np.eye(7, dtype=np.int16)])
    limits = keep_thresholds([Filter("top", fraction), Filter("bottom", fraction)], effects[None, None], documents)
    for tail, limit in (("top", limits["top"][0, 0]), ("bottom", limits["bottom"][0, 0])):
        kept = effects >= limit if tail == "top" else effects <= limit
        scores = Filter(tail).score(effects)
        rows = effects[:, None].astype(np.float64)
        found, whole = (
            bootstrap_filtered(scores[some], rows[some], documents[some], sizes, fraction, weights)
            for some in (kept, np.ones_like(kept))
        )
        assert found.exact, f"{tail}: {found.short:.0%} of the replicates lack tokens"
        np.testing.assert_allclose(found.sums, whole.sums)
        assert kept.sum() < len(kept), "and not simply everything"


def test_a_large_corpus_keeps_no_more_than_it_may(monkeypatch):
    made = large()
    documents = made.documents[made.scored]
    for most in (20, 10**6):
        monkeypatch.setattr("selfrepair.statistics.keep_limits.EXACT", most)
        limits = keep_thresholds([Filter("top", 0.05)], made.survey, documents)
        kept = (made.survey >= limits["top"][..., None]).sum(-1)
        assert (kept >= 16).all() and ((kept <= 20).all() if most == 20 else (kept > 20).any())


def test_a_token_that_both_ends_keep_is_kept_as_of_the_nearer_one():
    made = large()
    frame = kept(made, everything(made)).to_pandas()
    for _, rows in frame.groupby(["layer", "head"]):
        ordered = rows.sort_values("direct_effect")["kept_as"].tolist()
        tails = [one for one in ordered if one != "sample"]
        assert tails == sorted(tails), "bottom, then top"


def test_rows_hold_the_tokens_own_numbers():
    made = large()
    table = kept(made, everything(made))
    assert table.schema == TOKEN_SCHEMA
    frame = table.to_pandas()
    place = tuple(frame[axis].to_numpy() for axis in ("layer", "head", "window", "position"))
    for name in QUANTITIES:
        np.testing.assert_array_equal(frame[name], made.quantities[name][place])
    assert made.scored[place[2:]].all()
    np.testing.assert_array_equal(frame.token, made.tokens[place[2:]])
    np.testing.assert_array_equal(frame.target, made.tokens[place[2], place[3] + 1])
    assert list(frame.document) == [f"document {number}" for number in made.documents[place[2:]]]


def test_order_and_cut_of_chunks_do_not_matter():
    made = large()
    pieces = [(layer, [head], [w]) for layer in (1, 0) for w in range(9, -1, -1) for head in (2, 0, 1)]
    assert kept(made, pieces).equals(kept(made, everything(made)))


def test_rows_are_ordered_by_head_window_and_position():
    made = large()
    pieces = [(layer, [head], [w]) for layer in (1, 0) for w in range(9, -1, -1) for head in (2, 0, 1)]
    frame = kept(made, pieces).to_pandas()
    places = list(zip(*(frame[name] for name in ("layer", "head", "window", "position")), strict=True))
    assert places == sorted(places)


def test_units_of_work_keep_what_the_whole_keeps():
    made = large()
    whole = arrays(made, everything(made))
    first, second = (arrays(made, [(layer, [0, 1, 2], part) for layer in (0, 1)]) for part in (range(4), range(4, 10)))
    assert set(first) == set(second) == set(whole)
    for layer in (0, 1):
        mine = [name for name in whole if name.startswith(f"rows/{layer}/")]
        both = {name: np.concatenate([first[name], second[name]]) for name in mine}
        order = np.lexsort([both[f"rows/{layer}/{name}"] for name in ("position", "window", "head")])
        for name, values in both.items():
            np.testing.assert_array_equal(values[order], whole[name])


def test_the_sample_is_the_same_for_every_head_and_follows_the_seed():
    made = large()
    frame = kept(made, everything(made)).to_pandas()
    samples = {
        frozenset(zip(rows.window, rows.position, strict=True))
        for _, rows in frame[frame.in_sample].groupby(["layer", "head"])
    }
    assert len(samples) == 1
    assert (uniform_sample(made.scored, 7) != uniform_sample(made.scored, 7, seed=1)).any()
    assert uniform_sample(made.scored, 10**6).tolist() == np.argwhere(made.scored).tolist()


def test_the_sample_does_not_depend_on_how_many_windows_are_looked_at_together(monkeypatch):
    scored = np.random.default_rng(0).random((50, 9)) < 0.7
    whole = uniform_sample(scored, 40)
    for block in (1, 7, 49):
        monkeypatch.setattr("selfrepair.statistics.keep._BLOCK", block)
        np.testing.assert_array_equal(uniform_sample(scored, 40), whole)


def test_the_sample_of_some_windows():
    scored = np.ones((20, 5), bool)
    sample = uniform_sample(scored, 30)
    mask = in_sample(sample, np.array([7, 3, 11]), 5)
    assert {(w, p) for w, p in zip(*np.nonzero(mask), strict=True)} == {
        ([7, 3, 11].index(w), p) for w, p in sample.tolist() if w in (7, 3, 11)
    }


def test_the_sample_is_uniform():
    scored = np.ones((20, 50), bool)
    times = np.zeros(scored.shape)
    for seed in range(400):
        times[tuple(uniform_sample(scored, 100, seed).T)] += 1
    assert abs(times.mean() - 40) < 1e-9
    assert 0.8 < times.var() / (400 * 0.1 * 0.9) < 1.2


def test_filters_that_are_not_asked_for_keep_nothing_and_nothing_is_a_table_too():
    made = sweep(filters=(Filter("all"),))
    frame = kept(made, everything(made)).to_pandas()
    assert set(frame.kept_as) == {"sample"}
    assert keeper(made).arrays() == {}
    nothing = token_table({name: np.zeros(0, int) for name in TOKEN_SCHEMA.names}, names(made), made.filters)
    assert nothing.schema == TOKEN_SCHEMA and nothing.num_rows == 0


@pytest.mark.parametrize("documents", [12, 200])
def test_sparing_limits_keep_what_almost_all_replicates_want(documents):
    draws = np.random.default_rng(3)
    document = np.repeat(np.arange(documents), 40)
    effects = draws.normal(size=len(document)) + 0.5 * draws.normal(size=documents)[document]
    found = {}
    for sparing, spreads in ((True, SPREADS), (False, None)):
        limit = keep_thresholds([Filter("top", 0.05)], effects[None, None], document, spreads)["top"][0, 0]
        kept = np.flatnonzero(effects >= limit)
        rows = np.stack([np.ones(len(kept)), effects[kept]], 1)
        weights = document_weights(documents, 2000, 1)
        counts = np.full(documents, 40)
        found[sparing] = len(kept), bootstrap_filtered(effects[kept], rows, document[kept], counts, 0.05, weights)
    (few, spared), (_, exact) = found[True], found[False]
    top = int(0.05 * len(document))
    assert top < few <= 2 * top
    if documents == 200:
        assert few < 1.7 * top
        assert spared.short <= 0.002
    assert exact.short == 0
    same = np.isclose(spared.sums, exact.sums).all(1).mean()
    assert same >= 1 - spared.short - 1e-9


def test_a_run_that_may_end_early_keeps_what_its_first_documents_want():
    """40 of 400 documents, of which 30 may be all that is read: more than twice the share is never kept."""
    draws, documents, read = np.random.default_rng(4), 400, 40
    document = np.repeat(np.arange(documents), 40)
    effects = draws.normal(size=len(document)) + 0.3 * draws.normal(size=documents)[document]
    inside, short = document < read, {}
    for name, spreads in (("whole", SPREADS), ("early", spreads_kept(documents, 30))):
        limit = keep_thresholds([Filter("top", 0.1)], effects[None, None], document, spreads)["top"][0, 0]
        kept = np.flatnonzero((effects >= limit) & inside)
        rows, counts = np.ones((len(kept), 1)), np.full(read, 40)
        weights = document_weights(read, 2000, 1)
        short[name] = bootstrap_filtered(effects[kept], rows, document[kept], counts, 0.1, weights).short
        assert np.count_nonzero(effects >= limit) <= 2 * 0.1 * len(document)
    assert short["early"] <= 0.002 < 0.01 < short["whole"]
    assert spreads_kept(30, 30) == spreads_kept(20, 30) == SPREADS
