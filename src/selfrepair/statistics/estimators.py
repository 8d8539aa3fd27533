"""Every number the package reports about a set of tokens, as a function of their summed features.

Estimators are ratios and slopes of sums (`features.FEATURES`), so they apply alike to a head, a layer, a model, a
document or a bootstrap replicate: add the sums, then estimate. `L = DE - DE'` is the lost direct effect, so the
change in direct effect is `-L`; X is any line of the ledger. What is 0/0 is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from selfrepair.effects.lines import LINE_QUANTITIES, LINES
from selfrepair.errors import SelfRepairError
from selfrepair.registry import Registry
from selfrepair.statistics.estimator import EFFECTS, LINES_OF_LEDGER, SHARES, SLOPES, TOKENS, Estimator, Shown
from selfrepair.statistics.features import DONOR_VARIANCES, INDEX, Array

LOGITS, SQUARED, NONE = "logit", "squared logit", "1"
COMPARISON = "For comparison with the paper only: clipping cuts one side, so that pure noise clipped gives about 0.3"


def _ratio(above: str, below: str, sign: int = 1) -> Callable[[Array], Array]:
    top, bottom = INDEX[above], INDEX[below]

    def function(sums: Array) -> Array:
        return sign * _divide(sums[..., top], sums[..., bottom])

    return function


def _of_lost(
    name: str, description: str, *above: str, shown: Shown, below: str = "lost", known: bool = False
) -> Estimator:
    """The sum of some features over that of another which may be near zero."""
    share_of = "lost_direct_effect" if below == "lost" else below

    def parts(sums: Array) -> tuple[Array, Array]:
        sums = np.asarray(sums, np.float64)
        return sums[..., [INDEX[column] for column in above]].sum(-1), sums[..., INDEX[below]]

    return Estimator(
        name,
        NONE,
        description,
        lambda sums: _divide(*parts(sums)),
        parts=parts,
        share_of=share_of,
        shown=shown,
        known=known,
    )


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


def _mean(name: str, units: str = LOGITS, shown: Shown | None = None, known: bool = False) -> Estimator:
    return Estimator(name, units, f"Mean of {name}.", _ratio(name, "count"), shown=shown, known=known)


def _effects() -> list[Estimator]:
    axis = "section 2; Figures 2, 3 and 5"
    assumed = "section 2; the paper's Figure 2 takes it for 0, here it is measured"
    lost = "Mean of the direct effect the ablation takes away, L = DE - DE'."
    clean = Shown(EFFECTS, "direct effect (clean)", "DE = u·w / σ", f"{axis} (x axis)")
    replaced = Shown(EFFECTS, "direct effect of the replacement", "DE′ = u·w′ / σ", assumed)
    total = Shown(EFFECTS, "", "TE = logit′ − logit", f"{axis} (y axis)")
    repair = Shown(EFFECTS, "self-repair", "SR = TE − (DE′ − DE) = TE + L", "equation 1; Figure 1")
    return [
        _mean("direct_effect", shown=clean, known=True),
        _mean("ablated_direct_effect", shown=replaced, known=True),
        Estimator(
            "lost_direct_effect",
            LOGITS,
            lost,
            _ratio("lost", "count"),
            shown=Shown(EFFECTS, "", "L = DE − DE′ = −ΔDE", "section 2; equation 1"),
            known=True,
        ),
        _mean("total_effect", shown=total),
        _mean("self_repair", shown=repair),
    ]


def _ledger() -> list[Estimator]:
    scale = Shown(TOKENS, "scale of the final norm, clean / ablated", "σ / σ′", "section 4.1; Figure 4", neutral=1.0)
    gross = Shown(TOKENS, "self-repair, gross (mean of sizes)", "mean of |SR|")
    return [
        *(_mean(line.quantity, shown=Shown(LINES_OF_LEDGER, line.heading, line.formula, line.paper)) for line in LINES),
        _mean("sigma_ratio", NONE, scale),
        *(
            Estimator(
                f"gross_{name}",
                LOGITS,
                f"Mean of |{name}|: what its signs hide.",
                _ratio(f"absolute_{name}", "count"),
                shown=gross if name == "self_repair" else None,
            )
            for name in ("self_repair", *LINE_QUANTITIES)
        ),
        *(
            Estimator(name, SQUARED, "Mean over tokens of the variance over a token's donors.", _ratio(name, "count"))
            for name in DONOR_VARIANCES
        ),
    ]


def _fractions() -> list[Estimator]:
    whole = "Share of the lost direct effect that is made good, sum SR / sum L."
    as_whole = Shown(SHARES, "", "Σ SR / Σ L", "not in the paper, which averages clipped ratios")
    fractions = [_of_lost("repaired_fraction", whole, "self_repair", shown=as_whole)]
    for line in LINES:
        text = (
            f"Part of the repaired fraction by this line, sum {line.quantity} / sum L; the lines add up to the whole."
        )
        part = Shown(SHARES, line.share_heading, line.share_formula, line.share_in_paper)
        fractions.append(_of_lost(line.share, text, line.quantity, shown=part))
    masking = "1 - sum TE / sum(-L): what a total effect hides. Equals repaired_fraction, by the ledger's identity."
    by_identity = "not in the paper; equals the repaired fraction by the ledger's identity"
    hidden = Shown(SHARES, "masking, 1 − TE/ΔDE", "1 − Σ TE / Σ(−L)", by_identity)
    kept = "Direct effect left after ablation, sum DE' / sum DE."
    left = Shown(SHARES, "", "Σ DE′ / Σ DE")
    return [
        *fractions,
        _of_lost("masking", masking, "lost", "total_effect", shown=hidden),
        _of_lost("retention", kept, "ablated_direct_effect", below="direct_effect", shown=left, known=True),
    ]


def _slopes() -> list[Estimator]:
    slope = "of total effect on change in direct effect (1: no repair; 0: full repair)"
    squared = "Squared correlation of total effect and change in direct effect."
    no_repair = "the no-repair line of Figures 2, 3 and 5 has slope 1"
    return [
        Estimator(
            "slope_through_origin",
            NONE,
            f"Slope {slope}, -sum(L TE) / sum L^2. Counts all repair; tokens that lose much weigh most.",
            _ratio("lost_times_total_effect", "lost_squared", sign=-1),
            shown=Shown(SLOPES, "", "−Σ L·TE / Σ L²", no_repair, neutral=1.0),
        ),
        Estimator(
            "slope",
            NONE,
            f"Least-squares slope with intercept {slope}, -cov(L, TE) / var(L). Repair that is the same for all tokens "
            "goes into the intercept and does not show in it.",
            _slope,
            shown=Shown(SLOPES, "slope with intercept", "cov(−L, TE) / var(L)", "as above, with intercept", 1.0),
        ),
        Estimator(
            "r_squared",
            NONE,
            squared,
            _r_squared,
            "squared correlation",
            shown=Shown(SLOPES, "", "cor(−L, TE)²"),
        ),
    ]


def _share(name: str, description: str, counted: str, shown: Shown | None = None) -> Estimator:
    return Estimator(name, NONE, f"Share of tokens {description}", _ratio(counted, "count"), "share", shown=shown)


def _shares() -> list[Estimator]:
    repaired = Shown(TOKENS, "", "share of tokens with 0 < sign(L)·SR ≤ |L|")
    over = Shown(TOKENS, "", "share of tokens with sign(L)·SR > |L|")
    worse = Shown(TOKENS, "", "share of tokens with sign(L)·SR < 0", "“breakage”, section 3")
    return [
        _share("share_repaired", "with 0 < sign(L) SR <= |L|.", "repaired", repaired),
        _share("share_over_repaired", "with sign(L) SR > |L|: TE is opposite to the damage.", "over_repaired", over),
        _share("share_worse", "with sign(L) SR < 0: breakage.", "made_worse", worse),
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


_ALL = (*_effects(), *_ledger(), *_fractions(), *_slopes(), *_shares())
OWN = SimpleNamespace(**{estimator.name: estimator for estimator in _ALL})
ESTIMATORS: Registry[Estimator] = Registry(
    "estimator", "selfrepair.estimators", {name: f"{__name__}:OWN.{name}" for name in vars(OWN)}
)
"""All of them, those of other packages' entry points too."""


def all_estimators() -> dict[str, Estimator]:
    """Every estimator by name, loaded.

    Raises:
        SelfRepairError: another package's is none, or has another name than its entry point.
    """
    loaded: dict[str, Estimator] = {name: ESTIMATORS[name] for name in ESTIMATORS}
    for name, estimator in loaded.items():
        if not isinstance(estimator, Estimator) or estimator.name != name:
            raise SelfRepairError(
                f"The estimator '{name}' ({ESTIMATORS.origin(name)}) is not an `Estimator` of that name: "
                f"{estimator!r:.80}.",
                "Its entry point has to name an object of `selfrepair.statistics.estimator.Estimator`.",
            )
    return loaded
