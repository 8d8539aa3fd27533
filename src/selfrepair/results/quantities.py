"""Every number of results: its name, unit, formula, and what its sign means."""

from __future__ import annotations

from dataclasses import dataclass

from selfrepair.effects.lines import LINES
from selfrepair.statistics.accumulate import BY_ATTENTION, BY_HEAD, BY_MLP
from selfrepair.statistics.estimators import ESTIMATORS

PARTS = ("", "_standard_error", "_low", "_high")
LARGEST = ("largest_repairer", "largest_repair", "largest_repair_low", "largest_repair_high", "largest_repair_among")
INTERVALS_NOTE = (
    "Standard errors and 95% intervals are over documents, from a bootstrap that applies the filter again in each "
    "replicate; those of lines of components (repair_by_*) are linearised, the threshold's own error included. Ratios "
    "have Fieller's interval, -inf to inf where the denominator may be zero. In simulations they hold the true number "
    "93 to 97% of the time, with the exceptions that docs/coverage.md lists: fewer than 20 documents (more often), and "
    "heavy tails, with which filtered means, squared correlations and the largest repairer are held 79 to 92% of the "
    "time. Ratios with ends whose denominator is in truth next to zero have them by chance, and are held less often."
)


@dataclass(frozen=True)
class Quantity:
    """One number per (head, token): its long name, unit, formula and what its sign means."""

    long_name: str
    units: str
    description: str


QUANTITY: dict[str, Quantity] = {
    "direct_effect": Quantity(
        "clean direct effect",
        "logit",
        "u . write / sigma: what the head's write by itself adds to the target's centred logit, clean run. "
        "Positive: the head helps the target.",
    ),
    "ablated_direct_effect": Quantity(
        "direct effect of the replacement",
        "logit",
        "u . replacement / sigma, at the clean sigma: what stands in for the head's write by itself adds.",
    ),
    "total_effect": Quantity(
        "total effect of the ablation",
        "logit",
        "centred logit of the target, ablated minus clean. Negative: the ablation hurt.",
    ),
    "self_repair": Quantity(
        "self-repair",
        "logit",
        "total_effect - (ablated_direct_effect - direct_effect): change of the logit beyond the head's own. "
        "Positive: the rest of the model made up for a loss (or added to a gain).",
    ),
    **{line.quantity: Quantity(line.title, line.units, line.text) for line in LINES},
    "sigma_ratio": Quantity(
        "scale of the final norm, clean / ablated",
        "1",
        "sigma / sigma'. Above 1: the ablated residual stream is smaller, and every logit is scaled up.",
    ),
}
LOST = Quantity(
    "lost direct effect",
    "logit",
    "direct_effect - ablated_direct_effect: what there is to repair; the denominator of repaired_fraction.",
)
REPAIRED = Quantity(
    "repaired fraction",
    "1",
    "sum of self_repair / sum of (direct_effect - ablated_direct_effect): a ratio of sums over tokens, not a "
    "mean of ratios. Its interval is infinite where lost_direct_effect may be zero: it may be anything then.",
)
COMPONENT: dict[str, tuple[Quantity, tuple[str, ...]]] = {
    BY_ATTENTION: (
        Quantity(
            "self-repair by the attention of each layer",
            "logit",
            "ablated minus clean direct effect of layer by_layer's attention, the ablated head left out.",
        ),
        ("by_layer",),
    ),
    BY_MLP: (
        Quantity(
            "self-repair by the MLP of each layer",
            "logit",
            "ablated minus clean direct effect of layer by_layer's MLP.",
        ),
        ("by_layer",),
    ),
    BY_HEAD: (
        Quantity(
            "self-repair by each head",
            "logit",
            "ablated minus clean direct effect of head (by_layer, by_head), the ablated head left out.",
        ),
        ("by_layer", "by_head"),
    ),
}


def quantity_of(name: str) -> Quantity:
    """What an estimator is, for files and tables."""
    special = {**QUANTITY, "lost_direct_effect": LOST, "repaired_fraction": REPAIRED}
    if name in special:
        return special[name]
    estimator = ESTIMATORS[name]
    return Quantity(name.replace("_", " "), estimator.units, estimator.description)
