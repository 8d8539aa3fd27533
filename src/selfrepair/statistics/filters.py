"""Filters: which tokens a number averages over, chosen per head by its clean direct effect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selfrepair.choices import FILTERS
from selfrepair.errors import SelfRepairError

ALL = "all"
DEFAULT_FRACTION = 0.02
Score = Callable[[np.ndarray], np.ndarray]
"""The function behind a kind of filter: direct effects to scores, of which the filter takes the largest. The score of a
score is a direct effect with that score: `score(score(score(x))) == score(x)`, as for `x`, `-x` and `abs(x)`."""


def top_score(effects: np.ndarray) -> np.ndarray:
    """The score of `top`: tokens with the largest direct effects."""
    return effects


def bottom_score(effects: np.ndarray) -> np.ndarray:
    """The score of `bottom`: tokens with the most negative direct effects."""
    return -effects


def score_of(kind: str) -> Score:
    """The score of a kind of filter, of this package or another.

    Raises:
        SelfRepairError: no such kind, or a package that fails.
    """
    score: Score = top_score if kind == ALL else FILTERS[kind]
    return score


def _spellings() -> str:
    shares = " or ".join(f"{kind}:FRACTION" for kind in FILTERS)
    return f"Filters are written {ALL}, {shares}, for example top:0.02."


@dataclass(frozen=True)
class Filter:
    """The tokens of one head that a number averages over.

    Example:
        >>> Filter("top", 0.02).label, Filter.parse("bottom:5%").fraction
        ('top 2%', 0.05)

    Args:
        kind: `all` scored tokens, or those with the `top` (largest) or `bottom` (most negative) clean direct
            effects, or another of `selfrepair.choices.FILTERS`.
        fraction: share of the scored tokens, in (0, 1]; `all` has no use for it.

    Raises:
        SelfRepairError: unknown kind, or fraction outside (0, 1].
    """

    kind: str
    fraction: float = DEFAULT_FRACTION

    def __post_init__(self) -> None:
        if self.kind != ALL and self.kind not in FILTERS:
            raise SelfRepairError(f"Unknown filter {self.kind!r}.", _spellings())
        if not 0 < self.fraction <= 1:
            raise SelfRepairError(
                f"A filter's fraction must be above 0 and at most 1, not {self.fraction}.",
                "Write for example top:0.02 for the 2% of tokens with the largest direct effects.",
            )
        if self.kind == ALL:
            object.__setattr__(self, "fraction", 1.0)

    @classmethod
    def parse(cls, text: str) -> Filter:
        """Read `all`, `top`, `top:0.02`, `bottom:2%` or a label such as `top 2%`.

        Raises:
            SelfRepairError: text that is none of these.
        """
        kind, _, share = text.strip().lower().replace(" ", ":").partition(":")
        if not share:
            return cls(kind)
        try:
            fraction = float(share.removesuffix("%")) / (100 if share.endswith("%") else 1)
        except ValueError:
            raise SelfRepairError(f"Cannot read the filter {text!r}.", _spellings()) from None
        return cls(kind, fraction)

    @property
    def chooses(self) -> bool:
        """Whether it chooses tokens by their direct effects, rather than taking all."""
        return self.kind != ALL

    @property
    def label(self) -> str:
        """The filter's name in files, tables and plots: `all`, `top 2%`, `bottom 2%`."""
        return "all" if self.kind == "all" else f"{self.kind} {100 * self.fraction:g}%"

    def tokens_kept(self, tokens: int) -> int:
        """How many of `tokens` scored tokens pass, ties aside: `max(1, int(fraction * tokens))`."""
        return tokens if self.kind == "all" else max(1, int(self.fraction * tokens))

    def score(self, effects: np.ndarray) -> npt.NDArray[np.floating]:
        """Scores of direct effects of any shape; the filter takes the largest."""
        return score_of(self.kind)(effects)

    def passes(self, effects: np.ndarray, limit: np.ndarray | float) -> npt.NDArray[np.bool_]:
        """The one rule of a filter: which direct effects are on its side of a limit, or at it.

        Example:
            >>> Filter("bottom").passes(np.array([-2.0, -1.0, 3.0]), -1.0).tolist()
            [True, True, False]

        Args:
            effects: clean direct effects, centred logits; NaN passes only `all`.
            limit: direct effects to compare with, broadcast against `effects`, such as this filter's thresholds.
        """
        limits = np.asarray(limit)
        if not self.chooses:
            return np.ones(np.broadcast_shapes(np.shape(effects), limits.shape), bool)
        return np.asarray(self.score(np.asarray(effects)) >= self.score(limits))

    def passes_kept(self, effects: np.ndarray, limit: np.ndarray, in_sample: np.ndarray) -> npt.NDArray[np.bool_]:
        """Which kept tokens (rows of `tokens.parquet`) stand for the filter: those that pass, and of all the sample.

        Args:
            effects: clean direct effects of the rows, [row].
            limit: the filter's threshold of each row's head, [row].
            in_sample: whether a row is one of the uniform sample, [row].
        """
        return self.passes(effects, limit) if self.chooses else np.asarray(in_sample, bool)

    def thresholds(self, direct_effects: np.ndarray) -> npt.NDArray[np.floating]:
        """Exact threshold of every head over the whole corpus.

        Args:
            direct_effects: clean direct effects of all scored tokens, [layer, head, token], centred logits.

        Returns:
            The direct effect with the k-th largest score (`top`: the k-th largest, `bottom`: the k-th smallest),
            [layer, head]; -inf for `all`.

        Raises:
            SelfRepairError: no tokens, or direct effects that are not finite.
        """
        if not self.chooses:
            return np.full(direct_effects.shape[:2], -np.inf, direct_effects.dtype)
        return self.limits(direct_effects, self.tokens_kept(direct_effects.shape[-1]))

    def limits(self, direct_effects: np.ndarray, kept: int) -> npt.NDArray[np.floating]:
        """The direct effect that the `kept` tokens with the largest scores reach, [layer, head].

        Raises:
            SelfRepairError: no tokens, effects that are not finite, or a kind whose score is not one.
        """
        scores = kth_largest(self.score(direct_effects), kept)
        limits = np.asarray(self.score(scores))
        if limits.shape != scores.shape or not np.array_equal(self.score(limits), scores):
            raise SelfRepairError(
                f"The filter '{self.kind}' ({FILTERS.origin(self.kind)}) gives no thresholds: the score of a score is "
                "not a direct effect with that score.",
                "Its function has to satisfy score(score(score(x))) == score(x), as x, -x and abs(x) do.",
            )
        return limits

    def mask(
        self, direct_effect: np.ndarray, threshold: np.ndarray, scored: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Which tokens pass; ties with the threshold do.

        Args:
            direct_effect: clean direct effects, [head, window, position].
            threshold: this filter's threshold of each of these heads, [head].
            scored: tokens that count at all, [window, position].
        """
        return self.passes(direct_effect, threshold[:, None, None]) & scored


DEFAULT_FILTERS = (Filter(ALL), Filter("top"), Filter("bottom"))


def main_filter(filters: Sequence[Filter]) -> int:
    """Place of the filter that numbers are shown under: the first of a top share, or the first."""
    return next((number for number, filter_ in enumerate(filters) if filter_.kind == "top"), 0)


def choosing_kinds(filters: Sequence[Filter]) -> tuple[str, ...]:
    """The kinds of those filters that choose tokens, each once, in order."""
    return tuple(dict.fromkeys(filter_.kind for filter_ in filters if filter_.chooses))


def all_thresholds(filters: Sequence[Filter], direct_effects: np.ndarray) -> npt.NDArray[np.floating]:
    """Thresholds of several filters, [filter, layer, head], from direct effects [layer, head, token]."""
    return np.stack([filter_.thresholds(direct_effects) for filter_ in filters])


def scores_of(filters: Sequence[Filter], limits: np.ndarray) -> npt.NDArray[np.floating]:
    """Scores of direct effects [filter, ...], each under its filter."""
    return np.stack([filter_.score(limit) for filter_, limit in zip(filters, limits, strict=True)])


def kth_largest(values: np.ndarray, kept: int) -> npt.NDArray[np.floating]:
    """The k-th largest value of each head, [layer, head], from [layer, head, token].

    Raises:
        SelfRepairError: no tokens, or values that are not finite.
    """
    tokens = values.shape[-1]
    if tokens == 0:
        raise SelfRepairError("There are no scored tokens to choose from.", "Give more text, or longer windows.")
    rank = tokens - kept
    limits = np.empty(values.shape[:2], values.dtype)
    for layer, row in enumerate(values):  # one layer at a time: partition copies what it is given
        if not np.isfinite(row).all():
            raise SelfRepairError(
                f"The clean direct effects of layer {layer} are not finite.",
                "Run in float32, and check that the model's weights are finite.",
            )
        limits[layer] = np.partition(row, rank, axis=-1)[..., rank]
    return limits
