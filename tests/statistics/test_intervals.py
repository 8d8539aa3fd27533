import numpy as np
import pytest
from made_corpora import COLUMNS, corpus, replicated, spread, truth
from scipy.stats import t as student

import linearised
from selfrepair.statistics.bootstrap import bootstrap_all, document_weights
from selfrepair.statistics.estimators import ESTIMATORS
from selfrepair.statistics.features import FEATURES, INDEX
from selfrepair.statistics.intervals import Replicated, interval


def simulate(documents, correlation, fraction, corpora, seed=0):
    """Share of corpora whose document-level, and whose token-level, interval holds the truth, by estimator."""
    rng, answers = np.random.default_rng(seed), truth(fraction)
    hits = {name: [] for name in answers}
    for one in range(corpora):
        sums, replicates, present, effective, tokens = replicated(rng, documents, correlation, fraction, 250, one)
        for name, answer in answers.items():
            found = interval(ESTIMATORS[name](sums), ESTIMATORS[name](replicates), present, effective)
            value = found.value
            below = "lost" if name == "repaired_fraction" else "count"
            above = "self_repair" if name == "repaired_fraction" else name
            above, below = tokens[:, COLUMNS.index(above)], tokens[:, COLUMNS.index(below)]
            naive = np.sqrt(((above - value * below) ** 2).sum()) / abs(below.sum())
            hits[name].append((found.low <= answer <= found.high, abs(value - answer) < 1.96 * naive))
    return {name: np.mean(held, axis=0) for name, held in hits.items()}


@pytest.mark.parametrize(
    ("documents", "correlation", "fraction", "corpora"),
    [(60, 0.2, 1, 800), (60, 0.1, 0.02, 800), (200, 0.1, 0.02, 400), (200, 0.2, 1, 400)],
)
def test_intervals_over_documents_cover_where_those_over_tokens_do_not(documents, correlation, fraction, corpora):
    for name, (over_documents, over_tokens) in simulate(documents, correlation, fraction, corpora, seed=5).items():
        assert 0.93 <= over_documents <= 0.97, name
        assert over_tokens < (0.45 if fraction == 1 else 0.75), name


def test_with_twenty_documents_intervals_are_only_a_little_short():
    for fraction in (1, 0.02):
        for name, (over_documents, _) in simulate(20, 0.2, fraction, 500, seed=2).items():
            assert 0.90 <= over_documents <= 0.985, name


def test_the_bootstrap_agrees_with_the_linearised_error_where_there_is_no_filter():
    sizes, document, _, rows = corpus(np.random.default_rng(0), 150, 0.2)
    sums = spread(np.stack([rows[document == one].sum(0) for one in range(150)]))
    replicates = bootstrap_all(sums, document_weights(150, 4000))
    one = ESTIMATORS["self_repair"]
    found = interval(one(sums.sum(0)), one(replicates), 150)
    linear = linearised.mean(sums[:, INDEX["self_repair"]], sizes)
    np.testing.assert_allclose(found.value, linear.value)
    np.testing.assert_allclose(found.standard_error, linear.standard_error, rtol=0.05)


def test_interval_is_students_with_the_effective_number_of_documents():
    replicates = np.random.default_rng(0).normal(size=(400, 3))
    found = interval(np.zeros(3), replicates, np.array([9, 9, 9]), np.array([9.0, 4.5, 1.2]))
    worth = np.array([9.0, 4.5, 2.0])
    error = replicates.std(0, ddof=1) * np.sqrt(worth / (worth - 1))
    np.testing.assert_allclose(found.standard_error, error)
    np.testing.assert_allclose(found.high, error * student.ppf(0.975, worth - 1))
    np.testing.assert_allclose(found.low, -found.high)
    np.testing.assert_array_equal(found.documents, 9)


def test_one_document_has_no_interval_and_no_warnings(recwarn):
    found = interval(np.array([1.0, 2.0, np.nan]), np.zeros((10, 3)), np.array([1, 0, 5]))
    assert np.isnan(found.standard_error).all() and np.isnan(found.low).all() and np.isnan(found.high).all()
    np.testing.assert_array_equal(found.value, [1, 2, np.nan])
    assert not recwarn.list


def test_replicates_without_a_value_are_left_out_while_they_are_few(recwarn):
    replicates = np.random.default_rng(0).normal(size=(10, 2))
    replicates[:3, 0] = replicates[:6, 1] = np.nan
    found = interval(np.zeros(2), replicates, 100)
    np.testing.assert_allclose(found.standard_error, [replicates[3:, 0].std(ddof=1) * np.sqrt(100 / 99), np.nan])
    assert not recwarn.list


def made(cells, documents=12, seed=0):
    rng = np.random.default_rng(seed)
    sums = rng.normal(1, 0.3, (documents, *cells, len(FEATURES)))
    sums[..., INDEX["count"]] = 20
    effective = np.full(cells, documents - 1.0)
    present = np.full(cells, documents)
    return Replicated(sums.sum(0), bootstrap_all(sums, document_weights(documents, 300)), present, effective)


def test_pooling_adds_sums_replicate_by_replicate():
    heads = made((2, 3))
    whole, layers = heads.pooled(), heads.pooled(1)
    np.testing.assert_allclose(whole.sums, heads.sums.sum((0, 1)))
    np.testing.assert_allclose(layers.pooled().replicates, whole.replicates)
    assert whole.estimate("repaired_fraction").value.shape == () and layers.documents.shape == (2,)
    assert whole.documents == 12 and whole.effective == pytest.approx(11)
    assert heads.estimate("slope").value.shape == (2, 3)
    assert whole.estimate("self_repair").standard_error < heads.estimate("self_repair").standard_error.min()


def test_sums_that_do_not_match_are_refused():
    heads = made((2, 3))
    with pytest.raises(ValueError, match="do not match"):
        Replicated(heads.sums, heads.replicates[:, :1], heads.documents, heads.effective)
    with pytest.raises(ValueError, match="do not match"):
        Replicated(heads.sums[..., :4], heads.replicates[..., :4], heads.documents, heads.effective)


def test_shares_of_many_cells_stay_within_their_bounds_and_are_each_ones_own():
    rng, documents = np.random.default_rng(3), 7
    tokens = np.tile([9, 3, 5, 1, 4, 6, 2], (4, 1)).T
    counted = np.stack([tokens[:, 0], 0 * tokens[:, 0], rng.binomial(tokens[:, 0], 0.9), tokens[:, 0] > 8], 1)
    weights = document_weights(documents, 400)
    shares, replicates = counted.sum(0) / tokens.sum(0), (weights @ counted) / (weights @ tokens)
    found = interval(shares, replicates, documents, 4.2, scale="share")
    plain = interval(shares, replicates, documents, 4.2)
    assert (found.low >= 0).all() and (found.high <= 1).all() and (plain.high[2] > 1 or plain.low[3] < 0)
    assert (found.low <= shares).all() and (shares <= found.high).all()
    np.testing.assert_array_equal(found.standard_error, plain.standard_error)
    assert found.low[0] == pytest.approx(4.2 / (4.2 + 1.959964**2)) == 1 - found.high[1]
    for cell in range(4):
        one = interval(shares[cell], replicates[:, cell], documents, 4.2, scale="share")
        np.testing.assert_allclose((one.low, one.high), (found.low[cell], found.high[cell]), rtol=1e-12)


@pytest.mark.parametrize("scale", ["correlation", "squared correlation"])
def test_intervals_of_correlations_stay_within_their_bounds(scale):
    values = np.array([0.02, 0.5, 0.97])
    replicates = np.clip(values + np.random.default_rng(0).normal(size=(400, 3)) * 0.1, 0, 0.999)
    found = interval(values, replicates, 6, scale=scale)
    assert (found.high < 1).all() and (found.low >= (0 if "squared" in scale else -1)).all()
    assert (found.low < values).all() and (values < found.high).all()


def test_every_share_and_squared_correlation_of_a_run_stays_within_its_bounds():
    cells = made((5,))
    bounded = [one for one in ESTIMATORS.values() if one.scale != "plain"]
    assert {one.name for one in bounded} > {"share_repaired", "share_worse", "r_squared"}
    for one in bounded:
        found = cells.estimate(one)
        assert np.isnan(found.value).all() or (np.nanmin(found.low) >= 0 and np.nanmax(found.high) <= 1), one.name


def test_a_share_is_never_vaguer_than_a_token_of_each_document_would_make_it():
    replicates = np.where(np.arange(400) % 7 == 0, 0.1, 0.0)
    found = interval(np.asarray(0.0), replicates, 5, 2.5, scale="share")
    assert found.standard_error > 0 and found.low == 0 and found.high == pytest.approx(1 - 2.5 / (2.5 + 1.959964**2))
