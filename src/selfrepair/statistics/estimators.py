"""Every number the package reports about a set of tokens, as a function of their summed features.

Estimators are ratios and slopes of sums (`features.FEATURES`), so they apply alike to a head, a layer, a model, a
document or a bootstrap replicate: add the sums, then estimate. `L = DE - DE'` is the lost direct effect, so the
change in direct effect is `-L`; X is any line of the ledger. What is 0/0 is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from selfrepair.effects.lines import LINE_QUANTITIES
from selfrepair.statistics.accumulate import QUANTITIES
from selfrepair.statistics.features import DONOR_VARIANCES, INDEX, Array

Scale = Literal["plain", "share", "correlation", "squared correlation", "size"]
LOGITS, SQUARED, NONE = "logit", "squared logit", "1"
COMPARISON = "For comparison with the paper only: clipping cuts one side, so that pure noise clipped gives about 0.3"


@dataclass(frozen=True)
class Estimator:
    """A number computed from sums of features.

    Args:
        name: the estimator's name in files and tables.
        units: its units; empty for ratios and shares.
        description: what it is, with its formula.
        function: sums of features [..., feature] to values [...].
        scale: on which its interval is symmetric, see `intervals.interval`.
        parts: of a ratio whose denominator may be near zero: sums of features [..., feature] to numerator and
            denominator, each [...]; its interval is Fieller's, see `statistics.fieller`.
    """

    name: str
    units: str
    description: str
    function: Callable[[Array], Array]
    scale: Scale = "plain"
    parts: Callable[[Array], tuple[Array, Array]] | None = None

    def __call__(self, sums: np.ndarray) -> Array:
        """Values [...] from sums of features [..., feature]; 0/0 is NaN, without a warning."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.function(np.asarray(sums, np.float64))


def _ratio(above: str, below: str, sign: int = 1) -> Callable[[Array], Array]:
    top, bottom = INDEX[above], INDEX[below]

    def function(sums: Array) -> Array:
        return sign * _divide(sums[..., top], sums[..., bottom])

    return function


def _of_lost(name: str, description: str, *above: str, below: str = "lost") -> Estimator:
    """The sum of some features over that of another which may be near zero."""

    def parts(sums: Array) -> tuple[Array, Array]:
        sums = np.asarray(sums, np.float64)
        return sums[..., [INDEX[one] for one in above]].sum(-1), sums[..., INDEX[below]]

    return Estimator(name, NONE, description, lambda sums: _divide(*parts(sums)), parts=parts)


def _divide(above: Array, below: Array) -> Array:
    return above / np.where(below == 0, np.nan, below)


def _covariances(sums: Array) -> tuple[Array, Array, Array]:
    """n^2 times the variance of L, the variance of TE, and the covariance of TE with -L."""
    count, lost, total = (sums[..., INDEX[name]] for name in ("count", "lost", "total_effect"))
    lost_squares, total_squares, products = (
        sums[..., INDEX[name]] for name in ("lost_squared", "total_effect_squared", "lost_times_total_effect")
    )
    with_lost = _beyond_rounding(count * lost_squares - lost**2, count * lost_squares)
    with_total = _beyond_rounding(count * total_squares - total**2, count * total_squares)
    return with_lost, with_total, lost * total - count * products


def _beyond_rounding(variance: Array, size: Array) -> Array:
    """Zero for what is left over where all tokens are alike (one token drawn several times)."""
    return np.where(variance > 1e-9 * size, variance, 0.0)


def _slope(sums: Array) -> Array:
    of_lost, _, both = _covariances(sums)
    return _divide(both, np.where(of_lost > 0, of_lost, np.nan))


def _r_squared(sums: Array) -> Array:
    of_lost, of_total, both = _covariances(sums)
    product = of_lost * of_total
    return _divide(both**2, np.where((of_lost > 0) & (of_total > 0), product, np.nan))


def _means() -> list[Estimator]:
    means = [
        Estimator(name, NONE if name == "sigma_ratio" else LOGITS, f"Mean of {name}.", _ratio(name, "count"))
        for name in QUANTITIES
    ]
    lost = "Mean of the direct effect the ablation takes away, L = DE - DE'."
    means.append(Estimator("lost_direct_effect", LOGITS, lost, _ratio("lost", "count")))
    means += [
        Estimator(
            f"gross_{name}", LOGITS, f"Mean of |{name}|: what its signs hide.", _ratio(f"absolute_{name}", "count")
        )
        for name in ("self_repair", *LINE_QUANTITIES)
    ]
    means += [
        Estimator(name, SQUARED, "Mean over tokens of the variance over a token's donors.", _ratio(name, "count"))
        for name in DONOR_VARIANCES
    ]
    return means


def _fractions() -> list[Estimator]:
    whole = "Share of the lost direct effect that is made good, sum SR / sum L."
    fractions = [_of_lost("repaired_fraction", whole, "self_repair")]
    for line in LINE_QUANTITIES:
        text = f"Part of the repaired fraction by this line, sum {line} / sum L; the lines add up to the whole."
        fractions.append(_of_lost(line.replace("repair", "fraction"), text, line))
    return fractions


def _slopes() -> list[Estimator]:
    slope = "of total effect on change in direct effect (1: no repair; 0: full repair)"
    masking = "1 - sum TE / sum(-L): what a total effect hides. Equals repaired_fraction, by the ledger's identity."
    squared = "Squared correlation of total effect and change in direct effect."
    kept = "Direct effect left after ablation, sum DE' / sum DE."
    origin = _ratio("lost_times_total_effect", "lost_squared", sign=-1)
    return [
        Estimator(
            "slope_through_origin",
            NONE,
            f"Slope {slope}, -sum(L TE) / sum L^2. Counts all repair; tokens that lose much weigh most.",
            origin,
        ),
        Estimator(
            "slope",
            NONE,
            f"Least-squares slope with intercept {slope}, -cov(L, TE) / var(L). Repair that is the same for all tokens "
            "goes into the intercept and does not show in it.",
            _slope,
        ),
        Estimator("r_squared", NONE, squared, _r_squared, "squared correlation"),
        _of_lost("masking", masking, "lost", "total_effect"),
        _of_lost("retention", kept, "ablated_direct_effect", below="direct_effect"),
    ]


def _share(name: str, description: str, counted: str) -> Estimator:
    return Estimator(name, NONE, f"Share of tokens {description}", _ratio(counted, "count"), "share")


def _shares() -> list[Estimator]:
    return [
        _share("share_repaired", "with 0 < sign(L) SR <= |L|.", "repaired"),
        _share("share_over_repaired", "with sign(L) SR > |L|: TE is opposite to the damage.", "over_repaired"),
        _share("share_worse", "with sign(L) SR < 0: breakage.", "made_worse"),
        _share("share_sigma_above_one", "whose final-norm scale shrinks, sigma / sigma' > 1.", "sigma_above_one"),
        Estimator(
            "paper_clipped_mean_norm",
            NONE,
            f"{COMPARISON}: mean of clip(norm / DE, 0, 1).",
            _ratio("clipped_norm", "ratio_defined"),
        ),
        Estimator(
            "paper_clipped_mean_self_repair",
            NONE,
            f"{COMPARISON}: mean of clip(SR / DE, 0, 1).",
            _ratio("clipped_self_repair", "ratio_defined"),
        ),
    ]


ESTIMATORS: dict[str, Estimator] = {one.name: one for one in (*_means(), *_fractions(), *_slopes(), *_shares())}
