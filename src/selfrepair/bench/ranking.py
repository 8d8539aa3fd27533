"""How well a score puts some components before all others."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata

from selfrepair.statistics.estimates import LEVEL, Array


def auc(positive: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive is ranked before a negative; ties count half.

    Args:
        positive: which are positives, bool [component].
        score: large for those that come first, [component].

    Returns:
        NaN without positives or without negatives.
    """
    number, others = int(positive.sum()), int((~positive).sum())
    if not number or not others:
        return math.nan
    ranks = rankdata(score)
    return float((ranks[positive].sum() - number * (number + 1) / 2) / (number * others))


def average_precision(positive: np.ndarray, score: np.ndarray) -> float:
    """Mean precision over the ranks of positives; within a tie, what is expected of a random order.

    Args:
        positive: which are positives, bool [component].
        score: large for those that come first, [component].

    Returns:
        NaN without positives.
    """
    if not positive.any():
        return math.nan
    total, before, hits_before = 0.0, 0, 0
    for value in np.unique(score)[::-1]:
        tied = score == value
        size, hits = int(tied.sum()), int(positive[tied].sum())
        for place in range(1, size + 1) if hits else ():
            others = (place - 1) * (hits - 1) / (size - 1) if size > 1 else 0.0
            total += hits / size * (hits_before + 1 + others) / (before + place)
        before, hits_before = before + size, hits_before + hits
    return total / int(positive.sum())


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float], number: int, replicates: int, seed: int = 0
) -> tuple[float, float]:
    """A 95% percentile interval by resampling `number` units; NaN with fewer than two.

    Args:
        statistic: of the numbers of drawn units, int [number].
        number: of units.
        replicates: how often they are drawn.
        seed: of the draws.
    """
    if number < 2 or replicates < 1:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(number, size=number)) for _ in range(replicates)]
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def pearson(first: Array, second: Array) -> float:
    """Correlation; NaN where one of them does not vary."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])
