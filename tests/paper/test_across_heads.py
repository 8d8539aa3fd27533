"""Numbers over heads, with documents resampled for all heads together."""

import numpy as np
import pandas as pd
import pytest

from selfrepair.paper.numbers.across_heads import HeadSums
from selfrepair.statistics.bootstrap import document_weights, effective_documents
from selfrepair.statistics.intervals import interval


def rows_of(fractions, noise, documents=12, tokens=20, seed=0):
    """Rows of heads that repair known fractions of what they lose, with noise."""
    rng = np.random.default_rng(seed)
    parts = []
    for head, fraction in enumerate(fractions):
        lost = rng.uniform(0.5, 1.5, documents * tokens)
        frame = pd.DataFrame(
            {"layer": head // 4, "head": head % 4, "document": np.repeat(np.arange(documents), tokens)}
        )
        shared = noise * rng.normal(size=documents)[frame["document"]]
        parts.append(frame.assign(lost=lost, repair=fraction * lost + shared + noise * rng.normal(size=len(lost))))
    return pd.concat(parts, ignore_index=True)


def sums_of(rows):
    return HeadSums.of(rows, {"lost": rows["lost"].to_numpy(), "repair": rows["repair"].to_numpy()})


def test_sums_are_those_of_each_head_and_document():
    rows = rows_of((0.1, 0.5, 0.9, 0.2, 0.3), 0.1, documents=3)
    summed = sums_of(rows.sample(frac=1, random_state=0))
    wanted = rows.groupby(["document", "layer", "head"])["repair"].sum().to_numpy().reshape(3, 5)
    np.testing.assert_allclose(summed.sums["repair"], wanted)
    assert summed.layer.tolist() == [0, 0, 0, 0, 1] and summed.heads.tolist() == [0, 1, 2, 3, 0]
    assert summed.from_layer(1).sums["repair"].shape == (3, 1)


def test_the_interval_of_a_share_of_heads_is_that_of_plain_resampling():
    rows = rows_of(np.linspace(-0.2, 0.2, 12), 0.4)
    number = sums_of(rows).share_above("s", "repair")
    means = rows.groupby(["layer", "head"])["repair"].mean()
    assert number.value == (means > 0).mean() and number.documents == 12
    replicates = []
    for weights in document_weights(12, 400):
        drawn = rows.loc[rows.index.repeat(weights[rows["document"]])]
        replicates.append((drawn.groupby(["layer", "head"])["repair"].mean() > 0).mean())
    counts = np.bincount(rows["document"])
    half = interval(np.asarray(number.value), np.array(replicates), 12, effective_documents(counts))
    assert number.high - number.low == pytest.approx(float(half.high - half.low), rel=0.15)  # Wilson's, near one half


def test_heads_that_agree_in_everything_leave_the_bound_of_their_documents():
    number = sums_of(rows_of((0.5, 0.6, 0.7), 0.0, documents=5)).share_above("s", "repair")
    assert number.value == 1 and number.low == pytest.approx(5 / (5 + 1.959964**2)) and number.high == 1


def shown(rows):
    return sums_of(rows).share_shown("s", lambda sums: [sums["repair"]])


def test_what_is_shown_of_heads_lies_between_those_shown_to_and_those_shown_not_to():
    clear = shown(rows_of((0.5, 0.6, 0.7, -0.5, -0.6, 0.0), 0.1))
    assert clear.value in (3 / 6, 4 / 6) and (clear.low, clear.high) == (3 / 6, 4 / 6) and clear.documents == 12
    noise = shown(rows_of([0.0] * 40, 0.6, seed=3))
    assert 0.2 < noise.value < 0.8 and noise.low <= 0.05 and noise.high >= 0.95
    single = shown(rows_of((0.5, 0.6), 0.1, documents=1))
    assert (single.low, single.high) == (0, 1)  # one document shows nothing


def test_all_of_several_conditions_must_be_shown_and_one_fails_them_all():
    rows = rows_of((0.5, 1.5, -0.5), 0.05)
    number = sums_of(rows).share_shown("s", lambda sums: [sums["repair"], sums["lost"] - sums["repair"]])
    assert (number.low, number.value, number.high) == (1 / 3, 1 / 3, 1 / 3)
    among = sums_of(rows).share_shown("s", lambda sums: [sums["repair"]], among=np.array([True, False, True]))
    assert (among.low, among.value, among.high) == (1 / 2, 1 / 2, 1 / 2)


def test_noise_makes_no_spread_of_heads():
    """Heads that all repair half, noisily, lie apart as they are measured; the number knows it."""
    seen, spreads = [], []
    for seed in range(6):
        rows = rows_of([0.5] * 20, 0.6, seed=seed)
        by_head = rows.groupby(["layer", "head"])[["repair", "lost"]].sum()
        seen.append(np.subtract(*np.quantile(by_head["repair"] / by_head["lost"], [0.9, 0.1])))
        spreads.append(sums_of(rows).spread("s", "repair", "lost"))
    assert np.mean(seen) > 0.35 and np.mean([number.value for number in spreads]) < 0.5 * np.mean(seen)
    assert all(number.low < 0.2 for number in spreads)


def test_a_spread_that_is_there_is_found():
    fractions = np.linspace(0, 1, 20)
    number = sums_of(rows_of(fractions, 0.2)).spread("s", "repair", "lost")
    assert number.low > 0.2 and number.low <= 0.8 <= number.high


def test_no_heads_no_number():
    empty = rows_of((0.5,), 0.1).iloc[:0]
    assert np.isnan(sums_of(empty).share_above("s", "repair").value)
    assert np.isnan(sums_of(empty).spread("s", "repair", "lost").value)
