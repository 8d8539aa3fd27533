"""Differences between runs, with intervals: paired by document where the runs read the same documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import t as student

from selfrepair.statistics.estimates import LEVEL, Estimate, worth
from selfrepair.statistics.estimator import Estimator
from selfrepair.statistics.estimators import ESTIMATORS
from selfrepair.statistics.features import Array
from selfrepair.statistics.fieller import difference_of, linearised
from selfrepair.statistics.intervals import Replicated, interval


def difference(first: Replicated, second: Replicated, estimator: Estimator | str, *, paired: bool) -> Estimate:
    """Second minus first, of any estimator.

    Paired, replicate b of both runs must have the same document weights (same documents in the same order, same
    seed): what a document does to both runs cancels, as between two operators, checkpoints or models on one text.
    Unpaired, variances add, and the interval has Welch's degrees of freedom. The difference of two ratios has the
    interval that their own, which are Fieller's, make together (`fieller.difference_of`): where one of them is
    infinite, so is it.

    Args:
        first: [...].
        second: [...], or any shape that broadcasts against it.
        estimator: a name in `ESTIMATORS`, or an estimator.
        paired: whether replicates belong together; see `same_documents`.

    Returns:
        The difference, [...]; `documents` is the smaller number of the two.

    Raises:
        ValueError: paired runs with different numbers of replicates.
    """
    chosen = ESTIMATORS[estimator] if isinstance(estimator, str) else estimator
    documents = np.minimum(first.documents, second.documents)
    if paired and len(first.replicates) != len(second.replicates):
        raise ValueError(f"{len(first.replicates)} and {len(second.replicates)} replicates cannot be paired")
    if chosen.parts is not None:
        correlation = _correlation(first, second, chosen.parts) if paired else 0.0
        return difference_of(first.estimate(chosen), second.estimate(chosen), correlation)
    if not paired:
        return _unpaired(first, second, chosen, documents)
    value = chosen(second.sums) - chosen(first.sums)
    replicates = chosen(second.replicates) - chosen(first.replicates)
    return interval(value, replicates, documents, np.minimum(first.effective, second.effective))


def same_documents(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether two runs can be paired: the same document names (or hashes of their text) in the same order."""
    return list(first) == list(second)


def _correlation(first: Replicated, second: Replicated, parts: Callable[[Array], tuple[Array, Array]]) -> Array:
    """Correlation of the errors of a ratio in two runs on the same documents, [...]; 0 where one has none."""
    left, right = (linearised(parts(run.sums), parts(run.replicates)) for run in (first, second))
    left, right = left - left.mean(0), right - right.mean(0)
    sizes = np.sqrt((left**2).sum(0) * (right**2).sum(0))
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = (left * right).sum(0) / sizes
    return np.asarray(np.nan_to_num(np.clip(correlation, -1, 1)))


def _unpaired(first: Replicated, second: Replicated, estimator: Estimator, documents: np.ndarray) -> Estimate:
    left, right = first.estimate(estimator), second.estimate(estimator)
    squares = left.standard_error**2, right.standard_error**2
    freedoms = worth(first.documents, first.effective) - 1, worth(second.documents, second.effective) - 1
    error = np.sqrt(squares[0] + squares[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = error**4 / (squares[0] ** 2 / freedoms[0] + squares[1] ** 2 / freedoms[1])
    half = error * student.ppf((1 + LEVEL) / 2, np.where(error == 0, np.inf, freedom))
    value = right.value - left.value
    return Estimate(value, error, value - half, value + half, np.broadcast_to(documents, value.shape))
