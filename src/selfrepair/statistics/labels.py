"""A word for each head: what ablating it does, as far as the intervals decide.

Five regions of (direct effect, total effect), after the tabular-model post quoted in `science.md` 2.12, which tells
redundancy (nothing lost, nothing happens) from repair (something lost, nothing happens). What counts as the direct
effect is the part that the ablation takes away, `L = DE - DE'`: a head that writes the same everywhere loses
nothing, and is not called repaired.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selfrepair.errors import SelfRepairError
from selfrepair.statistics.estimates import Estimate

LABELS = (
    "redundant",
    "indirectly important",
    "load-bearing",
    "repaired",
    "amplified",
    "reversed",
    "uncertain",
)


@dataclass(frozen=True)
class LabelRule:
    """The thresholds of the labels; `describe` prints the rule.

    Args:
        negligible: mean effects up to this size count as none, centred logits.
        margin: how far total effect over damage may be from 1 and still be about equal.

    Raises:
        SelfRepairError: `negligible` below 0, or `margin` outside (0, 1).
    """

    negligible: float = 0.05
    margin: float = 0.25

    def __post_init__(self) -> None:
        if self.negligible < 0 or not 0 < self.margin < 1:
            raise SelfRepairError(
                f"The label rule has negligible = {self.negligible} and margin = {self.margin}.",
                "Choose negligible >= 0 (centred logits) and margin between 0 and 1.",
            )

    def describe(self) -> str:
        """The rule in words, one line per label."""
        low, high, size = 1 - self.margin, 1 + self.margin, self.negligible
        return "\n".join(
            (
                "L: mean direct effect the ablation takes away; TE: mean total effect; r = sum TE / sum(-L).",
                "A statement holds if the whole 95% interval (over documents) agrees with it.",
                f"redundant: |L| <= {size:g} and |TE| <= {size:g} (centred logits)",
                f"indirectly important: |L| <= {size:g} and |TE| > {size:g}",
                f"load-bearing: |L| > {size:g} and {low:g} <= r <= {high:g}",
                f"repaired: |L| > {size:g} and |r| < {low:g}",
                f"amplified: |L| > {size:g} and r > {high:g}",
                f"reversed: |L| > {size:g} and r < {-low:g} (repair beyond what was lost)",
                "uncertain: the intervals do not decide",
            )
        )


def labels(
    lost: Estimate, total_effect: Estimate, repaired_fraction: Estimate, rule: LabelRule | None = None
) -> npt.NDArray[np.str_]:
    """One of `LABELS` for each head.

    Args:
        lost: [...], estimator `lost_direct_effect`.
        total_effect: [...], estimator `total_effect`.
        repaired_fraction: [...], estimator `repaired_fraction`; r is 1 minus it.
        rule: thresholds; `LabelRule()` without it.
    """
    rule = rule or LabelRule()
    small, large = _sizes(lost, rule.negligible)
    no_total, some_total = _sizes(total_effect, rule.negligible)
    low, high = 1 - repaired_fraction.high, 1 - repaired_fraction.low
    below, above = 1 - rule.margin, 1 + rule.margin
    regions = [
        small & no_total,
        small & some_total,
        large & (low >= below) & (high <= above),
        large & (low > -below) & (high < below),
        large & (low > above),
        large & (high < -below),
    ]
    return np.select(regions, list(LABELS[:-1]), default=LABELS[-1])


def _sizes(effect: Estimate, negligible: float) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Where an effect is surely negligible, and where it surely is not; NaN is neither."""
    small = (effect.low >= -negligible) & (effect.high <= negligible)
    large = (effect.low > negligible) | (effect.high < -negligible)
    return np.asarray(small), np.asarray(large)
