"""Every quantity that the page shows: its formula, where the paper has it, and what its sign means."""

from __future__ import annotations

from selfrepair.results.quantities import INTERVALS_NOTE, quantity_of
from selfrepair.statistics.estimators import all_estimators

PAPER = "Rushing and Nanda, “Explorations of Self-Repair in Language Models”, ICML 2024"
SYMBOLS = (
    ("u", "unembedding direction of the target, centred over the vocabulary, the final norm's gain folded in"),
    ("w, w′", "what the head writes to the residual stream, and what its replacement writes"),
    ("σ, σ′", "scale of the final norm at this token, clean and ablated; direct effects always use the clean one"),
    ("logit, logit′", "the target's logit minus the vocabulary's mean, before any soft-cap, clean and ablated"),
    ("β", "the part of the logit that no scale divides"),
    ("target", "the token after the position: a prediction is made one position before the token it is about"),
)
# Quantities shown that are not estimators: name, formula, paper, description, units
SPECIAL = (
    [
        "curve_self_repair",
        "mean SR in each of equally full bins of DE",
        "section 3 takes the top 2% alone",
        "Mean self-repair over quantiles of direct effect; errors linearised over documents.",
        "logit",
    ],
    [
        "q_value",
        "Benjamini–Hochberg over heads",
        "not in the paper",
        "Adjusted p-value, over the filter's heads, of the test that self-repair is not zero and that more than "
        "a negligible direct effect is lost: see the labels below.",
        "1",
    ],
)


def method() -> dict[str, object]:
    """The method page: symbols, one row per quantity, and how intervals are made."""
    rows = [
        [
            estimator.name,
            estimator.shown.formula,
            estimator.shown.paper,
            quantity_of(estimator.name).description,
            quantity_of(estimator.name).units,
        ]
        for estimator in all_estimators().values()
        if estimator.shown and estimator.shown.formula
    ]
    symbols = [list(symbol) for symbol in SYMBOLS]
    return {"paper": PAPER, "symbols": symbols, "rows": [*rows, *SPECIAL], "intervals": INTERVALS_NOTE}
