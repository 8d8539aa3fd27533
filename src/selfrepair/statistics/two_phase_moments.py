"""Two phases while they grow: a number estimated from the documents so far, with its error linearised over them.

The twin of `two_phase` without replicates, as `curves.Moments` is that of the bootstrap: cheap enough to look at after
every unit. Of a document d and a head: s_d its sum by the surrogate over the filter's tokens, n_d these tokens, and in
the exact part D_d what the exact sum differs by and m_d = n_d. With N, M, D sums over the documents, `Dbar = D / M`
and `g = N / M`, the estimated sum over the filter's tokens is `sum_d y_d` with

    y_d = (s_d + Dbar n_d) + g (D_d - Dbar m_d)

which is also, to first order, what the document contributes to it: so y_d stands for a measured sum in the errors of
means and ratios. The first bracket is the first phase, known of all documents; the second is that of the part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from selfrepair.statistics.bootstrap import effective_documents
from selfrepair.statistics.curves import Moments
from selfrepair.statistics.estimates import LEVEL, Estimate
from selfrepair.statistics.features import Array
from selfrepair.statistics.fieller import Variances, fieller
from selfrepair.statistics.two_phase import FEWEST_EXACT, Phase, effective_together

_TAIL = (1 - LEVEL) / 2  # beyond either end of an interval


class PhaseSums(NamedTuple):
    """Sums over a filter's tokens of each document, all [document, ...].

    Args:
        surrogate: the number by the surrogate.
        exact: the number measured exactly; 0 outside of the part.
        tokens: tokens of the filter.
        counted: those that were measured exactly: all of a document's, or none.
    """

    surrogate: Array
    exact: Array
    tokens: Array
    counted: Array


@dataclass(frozen=True)
class TwoPhaseMoments:
    """What a mean or ratio estimated in two phases needs, over the documents so far.

    Attributes:
        moments: of the documents' contributions y_d, and of the denominators.
        effective: what both phases' documents amount to, [...]; never more than those of the first. NaN where a head
            has tokens, but on fewer than two documents of the part.
    """

    moments: Moments
    effective: Array

    @classmethod
    def of_means(cls, sums: PhaseSums) -> TwoPhaseMoments:
        """Means over each cell's tokens.

        Args:
            sums: [document, ...].
        """
        first, second, unknown = _contributions(sums)
        inside = np.where(sums.counted > 0, sums.tokens, 0.0)
        return cls._of(first, second, sums.tokens, inside, unknown)

    @classmethod
    def of_ratio(cls, sums: PhaseSums, below: np.ndarray) -> TwoPhaseMoments:
        """One ratio of all cells together, each cell's sum estimated from its own part.

        Args:
            sums: [document, ...].
            below: the denominator, which is known of all documents [document].
        """
        cells = tuple(range(1, sums.tokens.ndim))
        first, second, unknown = _contributions(sums)
        inside = np.where((sums.counted > 0).any(cells), below, 0.0)
        return cls._of(first.sum(cells), second.sum(cells), below, inside, np.asarray(unknown.any()))

    @classmethod
    def _of(cls, first: Array, second: Array, below: Array, inside: Array, unknown: np.ndarray) -> TwoPhaseMoments:
        moments = Moments.of(first + second, below)
        ratio = moments.y / np.where(moments.x == 0, np.nan, moments.x)
        variances = ((first - ratio * below) ** 2).sum(0), (second**2).sum(0)
        documents = [effective_documents(denominators) for denominators in (below, inside)]
        effective = np.full(np.shape(ratio), np.nan)
        for cell in np.ndindex(*effective.shape):
            if not unknown[cell] and np.isfinite(ratio[cell]):
                phases = (
                    Phase(max(float(number[cell]), 2.0), float(variance[cell]))
                    for number, variance in zip(documents, variances, strict=True)
                )
                effective[cell] = min(effective_together(*phases), max(float(documents[0][cell]), 2.0))
        return cls(moments, effective)

    @property
    def documents(self) -> np.ndarray:
        """Documents that the numbers rest on, whole ones: rules that count documents go by these."""
        return np.nan_to_num(np.floor(self.effective)).astype(np.int64)

    def mean(self, tail: np.ndarray | float | None = None) -> Estimate:
        """`sum y / sum x` with its linearised error and Student's interval, for an x far from zero, such as tokens.

        Args:
            tail: probability beyond either end of the interval, one or [...]; that of a 95% interval, if left out.
        """
        sums, several = self.moments, self.effective
        below = np.where(sums.x == 0, np.nan, sums.x)
        value = sums.y / below
        spread = np.maximum(sums.yy - 2 * value * sums.yx + value**2 * sums.xx, 0)
        error = np.sqrt(several / (several - 1) * spread) / np.abs(below)
        half = error * self._quantile(tail)
        return Estimate(value, error, value - half, value + half, self.documents)

    def ratio(self, tail: np.ndarray | float | None = None) -> Estimate:
        """`sum y / sum x` with Fieller's interval, for an x that may be near zero.

        Args:
            tail: as for `mean`.
        """
        sums, several = self.moments, self.effective
        pairs = (sums.yy, sums.y, sums.y), (sums.yx, sums.y, sums.x), (sums.xx, sums.x, sums.x)
        number = np.maximum(sums.documents, 1)
        variances = Variances(
            *((square - first * second / number) * several / (several - 1) for square, first, second in pairs)
        )
        below = np.where(sums.x == 0, np.nan, sums.x)
        error = np.sqrt(variances.of_difference(sums.y / below)) / np.abs(below)
        ends = fieller(sums.y, below, variances, self._quantile(tail))
        return Estimate(sums.y / below, error, *ends, self.documents)

    def _quantile(self, tail: np.ndarray | float | None) -> Array:
        return np.asarray(student.isf(_TAIL if tail is None else tail, self.effective - 1))


def _contributions(sums: PhaseSums) -> tuple[Array, Array, np.ndarray]:
    """What documents contribute to estimated sums by their first and by their second phase [document, ...], and which
    cells have too few documents in the part [...]."""
    there = sums.counted > 0
    difference = np.where(there, sums.exact - sums.surrogate, 0.0)
    tokens, counted = sums.tokens.sum(0), sums.counted.sum(0)
    some = np.where(counted > 0, counted, 1.0)
    mean, factor = difference.sum(0) / some, np.where(counted > 0, tokens / some, 0.0)
    first, second = sums.surrogate + mean * sums.tokens, factor * (difference - mean * sums.counted)
    return first, second, (tokens > 0) & (there.sum(0) < FEWEST_EXACT)
