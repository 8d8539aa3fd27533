"""Ranking figures against their definitions by counting."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from selfrepair.bench.ranking import auc, average_precision, bootstrap_interval, pearson

RNG = np.random.default_rng(0)
CASES = [(RNG.random(9) < 0.4, RNG.integers(0, 4, 9).astype(float)) for _ in range(12)]


@pytest.mark.parametrize(("positive", "score"), [case for case in CASES if 0 < case[0].sum() < 9])
def test_auc_counts_pairs(positive, score):
    pairs = list(product(score[positive], score[~positive]))
    assert auc(positive, score) == pytest.approx(sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs))


@pytest.mark.parametrize("score", [[3, 2, 1, 0], [0, 1, 2, 3], [1, 1, 0, 0], [1, 1, 1, 1], [2, 1, 1, 0]])
@pytest.mark.parametrize("positive", [[1, 0, 0, 1], [0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 1, 0]])
def test_average_precision_is_its_mean_over_all_orders_of_ties(positive, score):
    positive, score = np.array(positive, bool), np.array(score, float)

    def of(order):
        hits = positive[list(order)]
        return (np.cumsum(hits) / np.arange(1, 5))[hits].mean()

    def falling(values):
        return (np.diff(values) <= 0).all()

    orders = [order for order in permutations(range(4)) if falling(score[list(order)])]
    assert average_precision(positive, score) == pytest.approx(np.mean([of(order) for order in orders]))


def test_what_cannot_be_ranked_has_no_figure():
    values = np.arange(3.0)
    assert np.isnan(auc(np.ones(3, bool), values)) and np.isnan(average_precision(np.zeros(3, bool), values))
    assert np.isnan(pearson(np.ones(3), values)) and np.isnan(bootstrap_interval(lambda drawn: 0.0, 1, 10)).all()


def test_intervals_cover_a_mean():
    inside = 0
    for seed in range(200):
        values = np.random.default_rng(seed).normal(size=40)
        low, high = bootstrap_interval(lambda drawn, values=values: values[drawn].mean(), 40, 200, seed)
        inside += low < 0 < high
    assert 180 <= inside <= 199
