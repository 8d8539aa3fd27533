"""Names that the command line offers, without torch; a test holds them equal to the registries."""

from __future__ import annotations

from selfrepair.registry import names

OPERATORS = ("resample", "zero", "mean", "position-mean", "unchanged")
OPERATOR_GROUP = "selfrepair.operators"
_NOT_OFFERED = ("unchanged",)  # measures the numerical floor; as a run it shows nothing


def operators() -> list[str]:
    """Operators for `--ablation`, those of other packages included."""
    return [name for name in names(OPERATORS, OPERATOR_GROUP) if name not in _NOT_OFFERED]
