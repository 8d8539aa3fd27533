"""Intervals of ratios of sums, `R = N / D`, whose denominator may be near zero.

A ratio r is in the interval unless the data rule it out: the interval holds all r for which the interval of `N - r D`
holds 0 (Fieller, J. R. Stat. Soc. B 16 (1954) 175). `N - r D` has the variance `v_NN - 2 r v_ND + r^2 v_DD` from the
bootstrap replicates of N and D, so nothing is ever divided by a denominator that might be 0. The interval is not
symmetric about R; and where the interval of D itself holds 0, any size of ratio is possible: the set is then the whole
line, or all of it but a gap, and **the interval is -inf to inf**. That is what an infinite end means everywhere in the
package: the denominator cannot be distinguished from zero.

N and D are means per token where tokens are known (`per_token`), with variances and Student's quantile as those means'
own intervals have them (`intervals`). So a share agrees with the two means that it is made of: **it has ends
just where the interval of D leaves out zero, and then leaves out zero just where that of N does**. Sums over documents
of unequal size vary with the number of tokens drawn, and would call a denominator unsure whose mean is sure. With few
documents coverage is above 97%; `docs/coverage.md` has the table.

Moments of documents (`curves.Moments`), which know no tokens, have `sqrt(documents * effective) - 1` degrees of freedom
(`freedom`). Nothing smaller is needed there, although few documents may carry most of the sums: their own size bounds
`|N - r D|` against its standard error (Efron, J. Am. Stat. Assoc. 64 (1969) 1278).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from selfrepair.statistics.estimates import LEVEL, Estimate, worth
from selfrepair.statistics.features import Array


class Variances(NamedTuple):
    """Variances of two sums over documents and their covariance, each [...]."""

    above: Array
    both: Array
    below: Array

    def of_difference(self, ratio: np.ndarray | float) -> Array:
        """Variance of `N - ratio * D`."""
        return np.asarray(np.maximum(self.above - 2 * ratio * self.both + ratio**2 * self.below, 0))


def fieller(above: np.ndarray, below: np.ndarray, variances: Variances, quantile: np.ndarray) -> tuple[Array, Array]:
    """Lower and upper end of the interval of `above / below`, each [...].

    Args:
        above: N.
        below: D.
        variances: variances of both, and their covariance.
        quantile: half-width of the interval of `N - r D`, in standard errors.

    Returns:
        -inf and inf where the interval of D holds 0; NaN where there is no variance or quantile.
    """
    squared = np.asarray(quantile, np.float64) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        leading = below**2 - squared * variances.below
        middle = above * below - squared * variances.both
        last = above**2 - squared * variances.above
        half = np.sqrt(np.maximum(middle**2 - leading * last, 0))
        bounded, known = leading > 0, np.isfinite(leading + middle + last)
        scale = np.where(bounded, leading, 1.0)
        low = np.where(bounded, (middle - half) / scale, -np.inf)
        high = np.where(bounded, (middle + half) / scale, np.inf)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def freedom(documents: np.ndarray, effective: np.ndarray) -> Array:
    """Degrees of freedom of the interval of a ratio of documents' sums; NaN below two documents."""
    several = np.where(documents > 1, documents, np.nan).astype(np.float64)
    return np.asarray(np.sqrt(several * np.maximum(effective, 2.0)) - 1)


def per_token(sums: tuple[Array, Array], tokens: np.ndarray) -> tuple[Array, Array]:
    """Two sums as means over tokens, each [...]; NaN where there are none."""
    number = np.where(tokens == 0, np.nan, tokens)
    return sums[0] / number, sums[1] / number


def ratio_variances(above: np.ndarray, below: np.ndarray, several: np.ndarray) -> Variances:
    """Variances of two sums, or means, from their bootstrap replicates [replicate, ...].

    Replicates in which nothing was drawn (0/0) are left out, and where they are more than half all is NaN.

    Args:
        above: N in each replicate.
        below: D in each replicate.
        several: [...], documents that variances go by; NaN where there are too few.
    """
    drawn = ~((above == 0) & (below == 0)) & np.isfinite(above) & np.isfinite(below)
    number = np.where(drawn.mean(0) >= 0.5, drawn.sum(0), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        n, d = (np.where(drawn, sums, 0.0) for sums in (above, below))
        n, d = (np.where(drawn, sums - sums.sum(0) / number, 0.0) for sums in (n, d))
        scale = several / (several - 1) / (number - 1)
    return Variances(*(np.asarray((left * right).sum(0) * scale) for left, right in ((n, n), (n, d), (d, d))))


def ratio_interval(
    sums: tuple[Array, Array],
    replicates: tuple[Array, Array],
    documents: np.ndarray | int,
    effective: np.ndarray | float | None = None,
    level: float = LEVEL,
) -> Estimate:
    """A ratio of sums with its linearised standard error and Fieller's interval.

    Args:
        sums: numerator and denominator on the corpus itself, each [...]; `per_token` where tokens are known.
        replicates: the same in each bootstrap replicate, each [replicate, ...].
        documents: [...] or one number, the documents that have tokens here.
        effective: [...] or one number, the documents they amount to, as for means; without it, `documents`.
        level: coverage of the interval.
    """
    above, below = (np.asarray(side, np.float64) for side in sums)
    count = np.broadcast_to(np.asarray(documents, np.int64), above.shape)
    several = np.where(count > 1, worth(count, effective), np.nan)
    variances = ratio_variances(np.asarray(replicates[0]), np.asarray(replicates[1]), several)
    quantile = student.ppf((1 + level) / 2, several - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = above / np.where(below == 0, np.nan, below)
        error = np.sqrt(variances.of_difference(value)) / np.abs(below)
    low, high = fieller(above, below, variances, quantile)
    return Estimate(
        value, error, np.where(np.isnan(value), np.nan, low), np.where(np.isnan(value), np.nan, high), count
    )


def difference_of(first: Estimate, second: Estimate, correlation: np.ndarray | float = 0.0) -> Estimate:
    """Second minus first, with an interval made of both numbers' own, which need not be symmetric.

    The lower end is as far from the difference as the first's upper end and the second's lower end together
    (Zou and Donner, Stat. Med. 27 (2008) 1693: "method of variance estimates recovery"); infinite where theirs are.

    Args:
        first: [...].
        second: [...].
        correlation: correlation of the two numbers' errors, [...]; 0 for runs on different documents.
    """
    low = _distance(second.value - second.low, first.high - first.value, correlation)
    high = _distance(second.high - second.value, first.value - first.low, correlation)
    value = second.value - first.value
    error = _distance(second.standard_error, first.standard_error, correlation)
    return Estimate(value, error, value - low, value + high, np.minimum(first.documents, second.documents))


def linearised(sums: tuple[Array, Array], replicates: tuple[Array, Array]) -> Array:
    """The deviation of the ratio in each replicate, to first order, [replicate, ...]: `(N_b - R D_b) / D`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((replicates[0] - sums[0] / sums[1] * replicates[1]) / sums[1])


def _distance(first: np.ndarray, second: np.ndarray, correlation: np.ndarray | float) -> Array:
    with np.errstate(invalid="ignore"):
        distance = np.sqrt(np.maximum(first**2 + second**2 - 2 * correlation * first * second, 0))
    return np.where(np.isinf(first) | np.isinf(second), np.inf, distance)
