"""Every quantity that the page shows: its formula, where the paper has it, and what its sign means."""

from __future__ import annotations

from selfrepair.results.quantities import INTERVALS_NOTE, quantity_of

PAPER = "Rushing and Nanda, “Explorations of Self-Repair in Language Models”, ICML 2024"
# name: formula, place in the paper
FORMULAS: dict[str, tuple[str, str]] = {
    "direct_effect": ("DE = u·w / σ", "section 2; Figures 2, 3 and 5 (x axis)"),
    "ablated_direct_effect": ("DE′ = u·w′ / σ", "section 2; the paper's Figure 2 takes it for 0, here it is measured"),
    "lost_direct_effect": ("L = DE − DE′ = −ΔDE", "section 2; equation 1"),
    "total_effect": ("TE = logit′ − logit", "section 2; Figures 2, 3 and 5 (y axis)"),
    "self_repair": ("SR = TE − (DE′ − DE) = TE + L", "equation 1; Figure 1"),
    "repair_heads": ("Σ over other heads of (DE′ − DE)", "equation 2; section 4"),
    "repair_mlps": ("Σ over MLP layers of (DE′ − DE)", "equation 2; section 4.2"),
    "repair_post_norms": ("change of attention's write beyond its heads'", "not in the paper (its models have none)"),
    "repair_norm": ("(1 − σ′/σ)(logit′ − β)", "equation 2 and Appendix B; Figure 6"),
    "sigma_ratio": ("σ / σ′", "section 4.1; Figure 4"),
    "repaired_fraction": ("Σ SR / Σ L", "not in the paper, which averages clipped ratios"),
    "fraction_heads": ("Σ repair by heads / Σ L", "as above"),
    "fraction_mlps": ("Σ repair by MLPs / Σ L", "as above"),
    "fraction_post_norms": ("Σ repair by post-norms / Σ L", "as above"),
    "fraction_norm": ("Σ repair by the norm / Σ L", "compare Figure 11, a mean of clipped ratios"),
    "masking": ("1 − Σ TE / Σ(−L)", "not in the paper; equals the repaired fraction by the ledger's identity"),
    "retention": ("Σ DE′ / Σ DE", "not in the paper"),
    "slope_through_origin": ("−Σ L·TE / Σ L²", "the no-repair line of Figures 2, 3 and 5 has slope 1"),
    "slope": ("cov(−L, TE) / var(L)", "as above, with intercept"),
    "r_squared": ("cor(−L, TE)²", "not in the paper"),
    "share_repaired": ("share of tokens with 0 < sign(L)·SR ≤ |L|", "not in the paper"),
    "share_over_repaired": ("share of tokens with sign(L)·SR > |L|", "not in the paper"),
    "share_worse": ("share of tokens with sign(L)·SR < 0", "“breakage”, section 3"),
    "gross_self_repair": ("mean of |SR|", "not in the paper"),
    "curve_self_repair": ("mean SR in each of equally full bins of DE", "section 3 takes the top 2% alone"),
    "q_value": ("Benjamini–Hochberg over heads", "not in the paper"),
}
SYMBOLS = (
    ("u", "unembedding direction of the target, centred over the vocabulary, the final norm's gain folded in"),
    ("w, w′", "what the head writes to the residual stream, and what its replacement writes"),
    ("σ, σ′", "scale of the final norm at this token, clean and ablated; direct effects always use the clean one"),
    ("logit, logit′", "the target's logit minus the vocabulary's mean, before any soft-cap, clean and ablated"),
    ("β", "the part of the logit that no scale divides"),
    ("target", "the token after the position: a prediction is made one position before the token it is about"),
)
SPECIAL = {
    "curve_self_repair": "Mean self-repair over quantiles of direct effect; errors linearised over documents.",
    "q_value": "Adjusted p-value, over the filter's heads, of the test that self-repair is not zero and that more than "
    "a negligible direct effect is lost: see the labels below.",
}


def method() -> dict[str, object]:
    """The method page: symbols, one row per quantity, and how intervals are made."""
    rows = [
        [name, formula, paper, SPECIAL.get(name) or quantity_of(name).description, _units(name)]
        for name, (formula, paper) in FORMULAS.items()
    ]
    return {"paper": PAPER, "symbols": [list(one) for one in SYMBOLS], "rows": rows, "intervals": INTERVALS_NOTE}


def _units(name: str) -> str:
    if name in SPECIAL:
        return "logit" if name == "curve_self_repair" else "1"
    return quantity_of(name).units
