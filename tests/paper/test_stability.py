"""Which neurons repair how steadily, against loops over tokens."""

from itertools import combinations

import numpy as np
import pytest

from selfrepair.paper.experiments.name_movers.moved_stream import moved_stream_numbers
from selfrepair.paper.experiments.neurons.stability import carried, overlap_numbers, ranks_below_zero
from selfrepair.statistics.bootstrap import document_weights


def overlaps(top, document):
    """Mean overlap of pairs within a document and between documents; copies of a token are pairs of their own."""
    pairs = {True: [], False: []}
    for a, b in combinations(range(len(top)), 2):
        pairs[bool(document[a] == document[b])].append(len(set(top[a]) & set(top[b])) / top.shape[1])
    return np.mean(pairs[True]), np.mean(pairs[False])


def test_overlaps_are_those_of_pairs_and_intervals_those_of_resampling():
    rng = np.random.default_rng(0)
    document = np.repeat(np.arange(4), 4)
    top = np.stack([rng.choice(12, 3, replace=False) + 4 * (d % 2) for d in document])
    frequent, apart, within, between, difference = overlap_numbers("x", top, document, 20)
    wanted = overlaps(top, document)
    assert (within.value, between.value) == pytest.approx(wanted)
    assert difference.value == pytest.approx(wanted[0] - wanted[1])
    assert frequent.value == np.bincount(top.ravel()).max() / len(top) and 0 < frequent.low < frequent.value
    replicates = []
    for weights in document_weights(4, 400)[:60]:
        chosen = np.repeat(np.arange(16), weights[document])
        original = {True: [], False: []}  # pairs of copies of one document are left out of those between
        copies = np.concatenate([np.arange(w) for w in weights for _ in range(4)])
        for a, b in combinations(range(len(chosen)), 2):
            same = document[chosen[a]] == document[chosen[b]]
            if not same or copies[a] == copies[b]:
                original[bool(same)].append(len(set(top[chosen[a]]) & set(top[chosen[b]])) / 3)
        replicates.append(np.mean(original[True]) - np.mean(original[False]) if original[False] else np.nan)
    spread = np.nanstd(replicates, ddof=1)
    half = (difference.high - difference.low) / 2
    assert half / (3.182446 * np.sqrt(4 / 3)) == pytest.approx(spread, rel=0.3)  # of 60 replicates, not 400

    halves = [top[document % 2 == half].ravel() for half in (0, 1)]
    counts = [np.bincount(half, minlength=20) for half in halves]
    crossed = sum(
        counts_there[counts_here == counts_here.max()].mean() for counts_here, counts_there in (counts, counts[::-1])
    ) / len(top)
    assert apart.value == pytest.approx(crossed) and "other half" in apart.name


def test_the_most_frequent_of_thousands_of_neurons_is_not_frequent_by_chance():
    """Ten of 3000 neurons at random are in 1 of 300 tops; the plain maximum over 30 tokens says 1 in 15 or more."""
    rng = np.random.default_rng(5)
    top = np.stack([rng.choice(3000, 10, replace=False) for _ in range(30)])
    plain, apart, *_ = overlap_numbers("x", top, np.repeat(np.arange(6), 5), 3000)
    assert plain.value >= 2 / 30 and apart.value < 1 / 60
    steady = np.concatenate([np.full((30, 1), 7), top[:, 1:]], axis=1)
    assert overlap_numbers("x", steady, np.repeat(np.arange(6), 5), 3000)[1].value == 1


def test_shares_of_change_by_rank():
    absolute = np.tile(np.arange(11008, 0, -1.0), (2, 1))
    shares, whole = carried(absolute), absolute[0].sum()
    assert shares["first ranks"] == pytest.approx(absolute[:, :1000].sum(1) / whole)
    assert shares["middle ranks"] == pytest.approx(absolute[:, 2000:9000].sum(1) / whole)
    assert carried(np.zeros((1, 20)))["first ranks"] == 0


def test_ranks_with_negative_medians():
    rng = np.random.default_rng(1)
    document = np.repeat(np.arange(10), 6)
    effects = np.column_stack(
        [rng.normal(size=60) - 9, rng.normal(size=60) + 9, 0.1 * rng.normal(size=60), -np.ones(60)]
    )
    number = ranks_below_zero("r", effects, document)
    assert number.value == (np.median(effects, 0) < 0).mean() and 0 < number.low < number.value < number.high < 1
    sure = ranks_below_zero("r", effects[:, [0, 3]], document)
    assert sure.value == 1 and sure.low == pytest.approx(10 / (10 + 1.959964**2))


def test_waking_is_compared_over_heads_with_templates_resampled():
    rng = np.random.default_rng(2)
    cluster, response = np.repeat(np.arange(8), 3), rng.normal(size=(24, 9)) * 0.1 + np.arange(9)
    moved = 2 * response + rng.normal(size=(24, 9))
    above, backup = np.arange(9) > 2, np.arange(9) % 2 == 0
    change, correlation = moved_stream_numbers(cluster, response, moved, above, backup)
    assert change.value == pytest.approx(moved[:, [4, 6, 8]].sum(1).mean()) and change.low < change.value < change.high
    wanted = np.corrcoef(response[:, 3:].mean(0), moved[:, 3:].mean(0))[0, 1]
    assert correlation.value == pytest.approx(wanted)
    assert 0 < correlation.low < wanted < correlation.high < 1
    assert moved_stream_numbers(cluster, response, moved, np.arange(9) > 7, ~backup & False) == []
