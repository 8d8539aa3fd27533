"""The type of estimators: a number computed from sums of features, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from selfrepair.statistics.features import Array

Scale = Literal["plain", "share", "correlation", "squared correlation", "size"]
GROUPS = ("Effects", "Lines of the ledger", "Shares of what is lost", "Slopes", "Over tokens")  # of the page's menu
EFFECTS, LINES_OF_LEDGER, SHARES, SLOPES, TOKENS = GROUPS


@dataclass(frozen=True)
class Shown:
    """How an estimator is shown on the report's page.

    Attributes:
        group: heading in the menu of the map, one of `GROUPS` or a new one.
        title: there; by default the name.
        formula: on the method page, as are all that have one.
        paper: where the paper has it.
        neutral: the value that means nothing happened, white on the map.
    """

    group: str
    title: str = ""
    formula: str = ""
    paper: str = "not in the paper"
    neutral: float = 0.0


@dataclass(frozen=True)
class Estimator:
    """A number computed from sums of features.

    Args:
        name: the estimator's name in files and tables.
        units: its units; 1 for ratios and shares.
        description: description with formula.
        function: sums of features [..., feature] to values [...].
        scale: on which its interval is symmetric, see `intervals.interval`.
        parts: for a ratio whose denominator may be near zero, sums of features [..., feature] to numerator and
            denominator, each [...]; its interval is Fieller's, see `statistics.fieller`.
        share_of: the estimator of the mean that it is a share of, where that may be zero.
        shown: how the page shows it; None if only files and tables have it.
        known: whether it takes only what surrogates know exactly, direct effects, clean and ablated: in two phases the
            exact part then adds nothing to its error.
    """

    name: str
    units: str
    description: str
    function: Callable[[Array], Array]
    scale: Scale = "plain"
    parts: Callable[[Array], tuple[Array, Array]] | None = None
    share_of: str = ""
    shown: Shown | None = None
    known: bool = False

    @property
    def in_percent(self) -> bool:
        """Whether it is a share, of tokens or of a direct effect, which is written in per cent."""
        return self.scale == "share" or bool(self.share_of)

    def __call__(self, sums: np.ndarray) -> Array:
        """Values [...] from sums of features [..., feature]; 0/0 is NaN, without a warning."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.function(np.asarray(sums, np.float64))
