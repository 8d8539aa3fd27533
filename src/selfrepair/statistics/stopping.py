"""Stopping early without fooling oneself: intervals that hold at every look.

Looking again and again until an ordinary 95% interval is narrow enough, or leaves out 0, makes it cover less than
95%. A *confidence sequence* covers at all looks at once. This is the normal-mixture asymptotic confidence sequence
of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (Time-uniform central limit theory and asymptotic confidence
sequences, Ann. Stat. 52 (2024) 2613; arXiv 2103.06476, theorem 2.2): after t documents, in units of the standard
error,

    half-width = sqrt(2 (t rho^2 + 1) / (t rho^2) * log(sqrt(t rho^2 + 1) / alpha))

with rho chosen so that it is tightest near the number of documents the run is planned for (about 3.0 standard errors
there, against 1.96 at one planned look: the right to look at any time costs about 2.4 times the documents).

**Guarantee**: if documents come in random order, then with probability 1 - alpha, asymptotically in the number of
documents at the first look (`MINIMUM`, with Student's t in place of the normal to make up for the estimated error),
*every* interval of the sequence holds the true value, so whatever rule stops the run, the interval at the stop does.
The guarantee is for one number named beforehand (a head, or the card); filter thresholds must be fixed beforehand by
the survey. It is per number: with many heads, each holds at 1 - alpha, not all together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from selfrepair.errors import SelfRepairError
from selfrepair.statistics.estimates import LEVEL, Estimate
from selfrepair.statistics.features import Array

MINIMUM = 30


def multiplier(documents: np.ndarray | int, planned: int, level: float = LEVEL) -> Array:
    """Half-width of the sequence in standard errors, [...], after `documents` [...] of about `planned`."""
    alpha = 1 - level
    best = -2 * np.log(alpha) + np.log(-2 * np.log(alpha) + 1)  # their equation for rho^2 t, tightest at t
    grown = np.asarray(documents, np.float64) * best / planned
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(2 * (grown + 1) / grown * np.log(np.sqrt(grown + 1) / alpha)))


def confidence_sequence(estimate: Estimate, planned: int) -> Estimate:
    """The same number with an interval that holds at every look.

    Args:
        estimate: [...], with the ordinary 95% interval over the documents so far.
        planned: documents the run would read to its end; any number gives a valid sequence.

    Returns:
        The wider interval; infinite before `MINIMUM` documents.
    """
    ordinary = (estimate.high - estimate.low) / 2 / norm.ppf((1 + LEVEL) / 2)
    early = estimate.documents < MINIMUM
    half = np.where(early, np.inf, ordinary * multiplier(np.where(early, MINIMUM, estimate.documents), planned))
    value, error = estimate.value, estimate.standard_error
    return Estimate(value, error, value - half, value + half, estimate.documents)


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

    def reached(self, estimate: Estimate) -> npt.NDArray[np.bool_]:
        """Whether to stop for each number, [...]: half-width of its sequence at most 1.96 `target`.

        A rule for several numbers stops the run when all of them have been reached.
        """
        sequence = confidence_sequence(estimate, self.planned)
        half = (sequence.high - sequence.low) / 2
        return np.asarray(half <= norm.ppf((1 + LEVEL) / 2) * self.target)

    def describe(self) -> str:
        """The rule and what it promises, in a sentence."""
        return (
            f"Stops when a 95% interval that holds at every look is at most ±{1.96 * self.target:.3g} wide "
            f"(that of a standard error of {self.target:g}), after {MINIMUM} documents or more."
        )
