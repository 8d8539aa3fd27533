"""Stopping early: intervals that hold at every look.

Looking again and again until an ordinary 95% interval is narrow enough, or leaves out 0, makes it cover less than
95%. So looks are few and planned: the first after `MINIMUM` documents, each next one once there are `GROWTH` times as
many, the last at the end of the text. Over documents in random order, what has been summed up to each look is a random
walk, and its standardised values at looks t_1 < t_2 < ... are jointly normal in the limit, with correlations
`sqrt(t_j / t_k)`. The half-width is the c standard errors that all of them stay within with probability 95%
(`multiplier`; c from Worsley's bound, Biometrika 69 (1982) 297: `sum P(A_k) - sum P(A_k and A_(k+1))`, A_k that look k
lies outside). That is 2.5 to 2.8 against 1.96 at one planned look, so the right to look takes 1.6 to 2 times the
documents. Intervals with fewer than `SETTLED` documents t are wider still, by `(SETTLED / t)^(1/4)`: with so few, sums
of skewed numbers are not normal yet. **A run therefore stops when its standard error is 0.5 to 0.75 of the one asked
for** (`docs/coverage.md` has it measured): the standard error is not what is promised, the interval is.

**Guarantee**: if documents come in random order, then with probability 95% *every* interval at a look holds the true
value, so whatever rule stops the run, the interval at the stop does. It is asymptotic in the number of documents;
standard errors count by Student's t at the same tail probability. Simulated coverage over all looks is 94 to 98%,
exponential noise on documents of unequal size included (92% without the wider early ones); ordinary intervals looked at
after every document hold 57 to 60%.

Numbers estimated in two phases count as many documents as both phases amount to, in the rules for few documents too:
what is left of a surrogate's error is known from the part alone, which has few.

The guarantee is for one number named beforehand (a head, or the card), each of many at 95% and not all together; and
filter thresholds must be fixed beforehand, by the survey.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import multivariate_normal, norm

from selfrepair.errors import SelfRepairError
from selfrepair.statistics.estimates import LEVEL, Estimate

MINIMUM, GROWTH = 30, 1.25  # documents before the first look; how many times as many before the next
SETTLED = 120  # documents from which the multiplier is enough


class Summed(Protocol):
    """What is known of numbers after some documents: `curves.Moments` of measured sums, or
    `two_phase_moments.TwoPhaseMoments` of estimated ones."""

    @property
    def documents(self) -> np.ndarray:
        """Documents that the numbers rest on, [...]."""
        ...

    def mean(self, *, tail: np.ndarray | float | None = None) -> Estimate:
        """The means with intervals, `tail` being the probability beyond either end."""
        ...

    def ratio(self, tail: np.ndarray | float | None = None) -> Estimate:
        """The same for a denominator that may be near zero."""
        ...


def looks(planned: int) -> int:
    """How many looks there can be, the one at the end of the text among them, which may come at any time."""
    return 2 + int(np.floor(np.log(max(planned / MINIMUM, 1)) / np.log(GROWTH)))


@cache
def multiplier(planned: int, level: float = LEVEL) -> float:
    """Half-width of every interval in (known) standard errors.

    Args:
        planned: documents the run would read to its end.
        level: probability that the intervals at all looks cover.
    """
    number, alpha = looks(planned), 1 - level
    correlation = 1 / np.sqrt(GROWTH)
    pair = multivariate_normal([0, 0], [[1, correlation], [correlation, 1]])

    def excess(c: float) -> float:
        within = pair.cdf([c, c], lower_limit=[-c, -c])  # both of two neighbours
        single = 2 * norm.sf(c)
        both = 1 - 2 * (1 - single) + within
        return float(number * single - (number - 1) * both - alpha)

    return float(brentq(excess, norm.isf(alpha / 2), norm.isf(alpha / (4 * number))))


def confidence_sequence(moments: Summed, planned: int, *, ratio: bool = False, level: float = LEVEL) -> Estimate:
    """A number with an interval that holds at every look.

    Args:
        moments: [...], of the documents so far.
        planned: documents the run would read to its end.
        ratio: whether the denominator may be near zero; the interval is Fieller's then.
        level: coverage.

    Returns:
        The wider interval; infinite before `MINIMUM` documents.
    """
    tail = norm.sf(multiplier(planned, level) * np.maximum(1, SETTLED / np.maximum(moments.documents, 1)) ** 0.25)
    estimate = moments.ratio(tail) if ratio else moments.mean(tail=tail)
    early = estimate.documents < MINIMUM
    low, high = np.where(early, -np.inf, estimate.low), np.where(early, np.inf, estimate.high)
    return Estimate(estimate.value, estimate.standard_error, low, high, estimate.documents)


@dataclass(frozen=True)
class StopRule:
    """Stop once the sequence is as narrow as the 95% interval of a number whose standard error is `target`.

    Args:
        target: standard error asked for, in the number's own units.
        planned: documents the run would read to its end.

    Raises:
        SelfRepairError: a target that is not above 0.
    """

    target: float
    planned: int

    def __post_init__(self) -> None:
        if not self.target > 0:
            raise SelfRepairError(
                f"Cannot run until a standard error of {self.target}.", "Give one above 0, for example 0.01."
            )

    def due(self, documents: int, last: int) -> bool:
        """Whether to look.

        Args:
            documents: so far.
            last: at the last look; 0 before the first.
        """
        return documents >= max(MINIMUM, GROWTH * last)

    def reached(self, moments: Summed, *, ratio: bool = False) -> npt.NDArray[np.bool_]:
        """Whether to stop for each number, [...]: half-width of its sequence at most 1.96 `target`.

        A rule for several numbers stops the run when all of them have been reached.
        """
        sequence = confidence_sequence(moments, self.planned, ratio=ratio)
        half = (sequence.high - sequence.low) / 2
        return np.asarray(half <= norm.ppf((1 + LEVEL) / 2) * self.target)

    def describe(self) -> str:
        """The rule and what it promises, in a sentence."""
        return (
            f"Stops once the 95% interval that holds at every look is no wider than ±{1.96 * self.target:.3g} "
            f"(1.96 times {self.target:g}); looks after {MINIMUM} documents and then whenever there are {GROWTH:g} "
            f"times as many. Such an interval is {multiplier(self.planned):.2f} standard errors wide or more to either "
            f"side, so the standard error at the stop is at most {1.96 / multiplier(self.planned):.2f} of that."
        )
