"""Filters: which tokens a number averages over, chosen per head by its clean direct effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from selfrepair.errors import SelfRepairError

Kind = Literal["all", "top", "bottom"]
DEFAULT_FRACTION = 0.02
SPELLINGS = "Filters are written all, top:FRACTION or bottom:FRACTION, for example top:0.02."


@dataclass(frozen=True)
class Filter:
    """The tokens of one head that a number averages over.

    Example:
        >>> Filter("top", 0.02).label, Filter.parse("bottom:5%").fraction
        ('top 2%', 0.05)

    Args:
        kind: `all` scored tokens, or those with the `top` (largest) or `bottom` (most negative) clean direct
            effects.
        fraction: share of the scored tokens, in (0, 1]; `all` has no use for it.

    Raises:
        SelfRepairError: unknown kind, or fraction outside (0, 1].
    """

    kind: Kind
    fraction: float = DEFAULT_FRACTION

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise SelfRepairError(f"Unknown filter {self.kind!r}.", SPELLINGS)
        if not 0 < self.fraction <= 1:
            raise SelfRepairError(
                f"A filter's fraction must be above 0 and at most 1, not {self.fraction}.",
                "Write for example top:0.02 for the 2% of tokens with the largest direct effects.",
            )
        if self.kind == "all":
            object.__setattr__(self, "fraction", 1.0)

    @classmethod
    def parse(cls, text: str) -> Filter:
        """Read `all`, `top`, `top:0.02`, `bottom:2%` or a label such as `top 2%`.

        Raises:
            SelfRepairError: text that is none of these.
        """
        kind, _, share = text.strip().lower().replace(" ", ":").partition(":")
        if not share:
            return cls(cast(Kind, kind))
        try:
            fraction = float(share.removesuffix("%")) / (100 if share.endswith("%") else 1)
        except ValueError:
            raise SelfRepairError(f"Cannot read the filter {text!r}.", SPELLINGS) from None
        return cls(cast(Kind, kind), fraction)

    @property
    def label(self) -> str:
        """The filter's name in files, tables and plots: `all`, `top 2%`, `bottom 2%`."""
        return "all" if self.kind == "all" else f"{self.kind} {100 * self.fraction:g}%"

    def tokens_kept(self, tokens: int) -> int:
        """How many of `tokens` scored tokens pass, ties aside: `max(1, int(fraction * tokens))`."""
        return tokens if self.kind == "all" else max(1, int(self.fraction * tokens))

    def thresholds(self, direct_effects: np.ndarray) -> npt.NDArray[np.floating]:
        """Exact threshold of every head over the whole corpus.

        Args:
            direct_effects: clean direct effects of all scored tokens, [layer, head, token], centred logits.

        Returns:
            The k-th largest (`top`) or k-th smallest (`bottom`) value, [layer, head]; -inf for `all`.

        Raises:
            SelfRepairError: no tokens, or direct effects that are not finite.
        """
        if self.kind == "all":
            return np.full(direct_effects.shape[:2], -np.inf, direct_effects.dtype)
        kept = self.tokens_kept(direct_effects.shape[-1])
        return kth_values(direct_effects, kept, largest=self.kind == "top")

    def mask(
        self, direct_effect: np.ndarray, threshold: np.ndarray, scored: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Which tokens pass; ties with the threshold do.

        Args:
            direct_effect: clean direct effects, [head, window, position].
            threshold: this filter's threshold of each of these heads, [head].
            scored: tokens that count at all, [window, position].
        """
        limit = threshold[:, None, None]
        if self.kind == "all":
            return np.broadcast_to(scored, direct_effect.shape).copy()
        passes = direct_effect >= limit if self.kind == "top" else direct_effect <= limit
        return passes & scored


DEFAULT_FILTERS = (Filter("all"), Filter("top"), Filter("bottom"))


def all_thresholds(filters: Sequence[Filter], direct_effects: np.ndarray) -> npt.NDArray[np.floating]:
    """Thresholds of several filters, [filter, layer, head], from direct effects [layer, head, token]."""
    return np.stack([one.thresholds(direct_effects) for one in filters])


def kth_values(direct_effects: np.ndarray, kept: int, *, largest: bool) -> npt.NDArray[np.floating]:
    """The k-th largest (or smallest) value of each head, [layer, head], from [layer, head, token].

    Raises:
        SelfRepairError: no tokens, or values that are not finite.
    """
    tokens = direct_effects.shape[-1]
    if tokens == 0:
        raise SelfRepairError("There are no scored tokens to choose from.", "Give more text, or longer windows.")
    place = tokens - kept if largest else kept - 1
    limits = np.empty(direct_effects.shape[:2], direct_effects.dtype)
    for layer, effects in enumerate(direct_effects):  # one layer at a time: partition copies what it is given
        if not np.isfinite(effects).all():
            raise SelfRepairError(
                f"The clean direct effects of layer {layer} are not finite.",
                "Run in float32, and check that the model's weights are finite.",
            )
        limits[layer] = np.partition(effects, place, axis=-1)[..., place]
    return limits
