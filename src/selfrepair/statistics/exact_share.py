"""The share of documents to measure exactly, in two phases, that narrows intervals most in a given time.

Of a head's mean over N documents of which n are exact, the variance is `(S - R) / N + R / n`, S that of what one
document contributes, and R that of what it contributes to the difference from the surrogate. A document takes a
seconds, and b more if it is exact. Without Student's quantile the best share of a single head is

    n / N = sqrt((a / b) / (S / R - 1))

With it (few exact documents have wide intervals, however small their variance) the share is looked for among many:
that with the least square of the interval's half-width, relative to S, in the mean over heads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from selfrepair.statistics.bootstrap import effective_documents
from selfrepair.statistics.estimates import LEVEL
from selfrepair.statistics.features import Array
from selfrepair.statistics.two_phase import FEWEST_EXACT
from selfrepair.statistics.two_phase_moments import PhaseSums

SHARES = np.geomspace(0.005, 1, 160)  # that are tried


class HeadVariance(NamedTuple):
    """What is known of heads from a few documents, all of them measured exactly; each [head].

    Args:
        left: share of the variance of a head's mean that the surrogate leaves, `R / S`; 1 at most, where it is of no
            use.
        worth: what one document amounts to in the mean (`bootstrap.effective_documents`).
    """

    left: Array
    worth: Array


def variance_left(sums: PhaseSums) -> HeadVariance:
    """How much surrogates leave, of the heads that have tokens on two documents or more, and vary.

    Args:
        sums: of documents that are all in the part [document, head].
    """
    tokens = sums.tokens.sum(0)
    some = np.where(tokens > 0, tokens, 1.0)

    def squares(values: np.ndarray) -> Array:
        return np.asarray(((values - values.sum(0) / some * sums.tokens) ** 2).sum(0))

    measured, difference = squares(sums.exact), squares(sums.exact - sums.surrogate)
    known = ((sums.tokens > 0).sum(0) > 1) & (measured > 0)
    left = np.minimum(difference[known] / measured[known], 1.0)
    return HeadVariance(left, effective_documents(sums.tokens)[known] / len(sums.tokens))


def best_share(heads: HeadVariance, every: float, exact: float, seconds: float) -> float | None:
    """The share that narrows intervals most; None where nothing is known of any head.

    Args:
        heads: from `variance_left`.
        every: seconds of a document that is estimated only.
        exact: seconds beside, of one that is measured exactly.
        seconds: all that there is.
    """
    if not len(heads.left):
        return None
    return float(min(SHARES, key=lambda share: squared_width(heads, every, exact, seconds, float(share))))


def squared_width(heads: HeadVariance, every: float, exact: float, seconds: float, share: float) -> float:
    """Square of the half-width of a mean's interval over the variance of a document's contribution, the mean over
    heads; infinite where two exact documents do not fit.

    Args:
        heads: from `variance_left`.
        every, exact, seconds: as for `best_share`.
        share: of the documents that are exact.
    """
    documents = seconds / (every + share * exact)
    part = share * documents
    if part < FEWEST_EXACT:
        return np.inf
    first, second = (1 - heads.left) / documents, heads.left / part
    variance = first + second
    freedom = [np.maximum(number * heads.worth, 2.0) - 1 for number in (documents, part)]
    together = variance**2 / (first**2 / freedom[0] + second**2 / freedom[1])
    return float(np.mean(variance * student.isf((1 - LEVEL) / 2, together) ** 2))
