"""Labels each head by what ablating it does, as far as intervals and the number of heads tested allow.

Five regions of (direct effect, total effect) separate redundancy (nothing lost, nothing happens) from repair (something
lost, nothing happens); they are in docs/methods.md 4.4. What counts as the direct effect is the part that the ablation
takes away, `L = DE - DE'`: a head that writes the same everywhere loses nothing, and is not called repaired.

"Repaired" has one meaning everywhere: in tables (marked), on cards (counted), in `heads.nc`, in figures and on pages.
It is decided by the intervals that are printed, and allows for how many heads were tested (`reaction`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selfrepair.errors import SelfRepairError
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.reaction import RATE

REPAIRED, AMPLIFIED = "repaired", "amplified"
LABELS = ("redundant", "indirectly important", "load-bearing", REPAIRED, AMPLIFIED, "uncertain")


@dataclass(frozen=True)
class LabelRule:
    """The thresholds of the labels; `describe` prints the rule.

    Args:
        negligible: mean effects up to this size count as none, centred logits.
        margin: how far total effect over damage may be from 1 and still be about equal.
        rate: false discovery rate of the labels `repaired` and `amplified`, over the heads of a filter.

    Raises:
        SelfRepairError: `negligible` below 0, or `margin` or `rate` outside (0, 1).
    """

    negligible: float = 0.05
    margin: float = 0.25
    rate: float = RATE

    def __post_init__(self) -> None:
        if self.negligible < 0 or not 0 < self.margin < 1 or not 0 < self.rate < 1:
            raise SelfRepairError(
                f"The label rule has negligible = {self.negligible}, margin = {self.margin} and rate = {self.rate}.",
                "Choose negligible >= 0 (centred logits), margin and rate between 0 and 1.",
            )

    def describe(self) -> str:
        """The rule in words, one line per label; the first that applies is the head's."""
        low, high, size = 1 - self.margin, 1 + self.margin, self.negligible
        return "\n".join(
            (
                "SR: mean self-repair; L: mean direct effect the ablation takes away; TE: mean total effect; "
                "r = sum TE / sum(-L).",
                "Intervals are 95%, over documents. The first line that applies gives the label.",
                f"{REPAIRED}: SR counters the loss. The interval of SR leaves out zero, that of L lies beyond "
                f"{size:g} (centred logits), both on the same side, and the head passes Benjamini-Hochberg over the "
                f"heads of the filter: q <= {self.rate:g}, a false discovery rate of {100 * self.rate:g}%",
                f"{AMPLIFIED}: SR adds to the loss. The same, with SR and L on opposite sides",
                f"redundant: the intervals of L and TE lie within +-{size:g}",
                f"indirectly important: the interval of L lies within +-{size:g}, that of TE beyond",
                f"load-bearing: the interval of L lies beyond {size:g}, that of r within {low:g} to {high:g}",
                "uncertain: nothing of this",
                f"{REPAIRED.capitalize()} and {AMPLIFIED} allow for the number of heads tested; the other labels go by "
                "one head's intervals alone.",
            )
        )


def labels(
    lost: Estimate,
    total_effect: Estimate,
    repaired_fraction: Estimate,
    q_values: npt.NDArray[np.float64],
    rule: LabelRule | None = None,
) -> npt.NDArray[np.str_]:
    """One of `LABELS` for each head.

    Args:
        lost: [...], estimator `lost_direct_effect`.
        total_effect: [...], estimator `total_effect`.
        repaired_fraction: [...], estimator `repaired_fraction`; r is 1 minus it. Its sign decides whether self-repair
            counters the loss.
        q_values: [...], of `reaction_p_values` over the heads of a filter.
        rule: thresholds; `LabelRule()` without it.
    """
    rule = rule or LabelRule()
    small, large = _sizes(lost, rule.negligible)
    no_total, some_total = _sizes(total_effect, rule.negligible)
    significant = q_values <= rule.rate
    equal = (repaired_fraction.low >= -rule.margin) & (repaired_fraction.high <= rule.margin)
    regions = {
        REPAIRED: significant & (repaired_fraction.value > 0),
        AMPLIFIED: significant & (repaired_fraction.value < 0),
        "redundant": small & no_total,
        "indirectly important": small & some_total,
        "load-bearing": large & equal,
    }
    return np.select(list(regions.values()), list(regions), default=LABELS[-1])


def _sizes(effect: Estimate, negligible: float) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Masks of effects that are surely negligible, and surely not; NaN is neither."""
    small = (effect.low >= -negligible) & (effect.high <= negligible)
    large = (effect.low > negligible) | (effect.high < -negligible)
    return np.asarray(small), np.asarray(large)
