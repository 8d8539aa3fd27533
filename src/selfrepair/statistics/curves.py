"""Self-repair as a curve over quantiles of direct effect, with document-level errors from additive moments.

Sums per document, bin and head would take too much room, and their replicates more; the linearised error of a ratio
of sums needs only five moments, which add up over documents.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from selfrepair.statistics.estimates import LEVEL, Estimate
from selfrepair.statistics.features import Array
from selfrepair.statistics.fieller import Variances, fieller, freedom
from selfrepair.statistics.intervals import worth

_TAIL = (1 - LEVEL) / 2  # beyond either end of an interval


def bin_edges(direct_effects: np.ndarray, bins: int) -> npt.NDArray[np.floating]:
    """Inner edges of equally full bins of each head's direct effect.

    Args:
        direct_effects: [layer, head, token], clean direct effects of all scored tokens, centred logits.
        bins: how many bins.

    Returns:
        [layer, head, bins - 1]: edge j is the value at rank `floor((j + 1) tokens / bins)`, so bin j holds the
        tokens from edge j - 1 (included) up to edge j (not included), ties aside equally many.

    Raises:
        ValueError: fewer than one bin, or fewer tokens than bins.
    """
    tokens = direct_effects.shape[-1]
    if not 1 <= bins <= tokens:
        raise ValueError(f"{tokens} tokens cannot fill {bins} bins")
    ranks = np.arange(1, bins) * tokens // bins
    edges = np.empty((*direct_effects.shape[:2], bins - 1), direct_effects.dtype)
    for layer, effects in enumerate(direct_effects):  # one layer at a time: partition copies what it is given
        edges[layer] = np.partition(effects, ranks, axis=-1)[..., ranks] if bins > 1 else edges[layer]
    return edges


def bin_index(direct_effects: np.ndarray, edges: np.ndarray) -> npt.NDArray[np.int64]:
    """The bin of each token, [head, ...], from direct effects [head, ...] and edges [head, bins - 1]."""
    places = [np.searchsorted(edge, effect, side="right") for effect, edge in zip(direct_effects, edges, strict=True)]
    return np.asarray(places, np.int64).reshape(direct_effects.shape)


@dataclass(frozen=True)
class Moments:
    """Moments over documents of two sums per document, Y_d and X_d: additive, and all that Y / X needs.

    With `X_d = n_d`, tokens, the ratio is a mean; with `X_d = sum L`, a repaired fraction. **Each document must be
    whole** before its moments are taken: moments of the halves of a document do not add up to those of the document.

    Args:
        documents: int [...], documents that have tokens here.
        y, x: [...], sums over documents.
        yy, yx, xx: [...], sums over documents of Y_d^2, Y_d X_d, X_d^2.
    """

    documents: npt.NDArray[np.int64]
    y: Array
    x: Array
    yy: Array
    yx: Array
    xx: Array

    @classmethod
    def of(cls, numerators: np.ndarray, denominators: np.ndarray, present: np.ndarray | None = None) -> Moments:
        """Moments of whole documents.

        Args:
            numerators: Y, [document, ...].
            denominators: X, [document, ...], broadcastable against `numerators`.
            present: [document, ...], which documents have tokens here; where X is not 0, if left out.
        """
        y, x = np.broadcast_arrays(np.asarray(numerators, np.float64), np.asarray(denominators, np.float64))
        here = np.broadcast_to(x != 0 if present is None else present, x.shape)
        count = here.sum(axis=0, dtype=np.int64)
        return cls(count, y.sum(0), x.sum(0), (y**2).sum(0), (y * x).sum(0), (x**2).sum(0))

    def __add__(self, other: Moments) -> Moments:
        """Moments of both sets of documents; the sets must not share one."""
        return Moments(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    @property
    def effective(self) -> Array:
        """Effective documents, `(sum X)^2 / sum X^2`, [...]; see `bootstrap.effective_documents`."""
        return np.asarray(self.x**2 / np.where(self.xx == 0, 1, self.xx))

    def mean(self, effective: bool = True, tail: np.ndarray | float | None = None) -> Estimate:
        """`R = sum Y / sum X` with its linearised error, for an X that is far from zero, such as tokens.

        `se^2 = E / (E - 1) * (sum Y^2 - 2 R sum Y X + R^2 sum X^2) / (sum X)^2`; t interval with E - 1 degrees of
        freedom; NaN where X sums to 0, errors NaN with fewer than two documents.

        Args:
            effective: E is the effective number of documents, as for bootstrap intervals; else the plain number,
                which gives the linearised ratio estimator.
            tail: probability beyond either end of the interval, one or [...]; that of a 95% interval, if left out.
        """
        below = np.where(self.x == 0, np.nan, self.x)
        value = self.y / below
        spread = np.maximum(self.yy - 2 * value * self.yx + value**2 * self.xx, 0)
        several = np.where(self.documents > 1, worth(self.documents, self.effective if effective else None), np.nan)
        error = np.sqrt(several / (several - 1) * spread) / np.abs(below)
        half = error * student.isf(_TAIL if tail is None else tail, several - 1)
        return Estimate(value, error, value - half, value + half, np.asarray(self.documents))

    def ratio(self, tail: np.ndarray | float | None = None) -> Estimate:
        """`R = sum Y / sum X` with Fieller's interval, for an X that may be near zero; see `fieller`.

        Args:
            tail: as for `mean`.
        """
        documents = np.asarray(self.documents)
        several = np.where(documents > 1, documents, np.nan)
        pairs = (self.yy, self.y, self.y), (self.yx, self.y, self.x), (self.xx, self.x, self.x)
        variances = Variances(
            *((square - one * other / several) * several / (several - 1) for square, one, other in pairs)
        )
        quantile = student.isf(_TAIL if tail is None else tail, freedom(documents, self.effective))
        below = np.where(self.x == 0, np.nan, self.x)
        error = np.sqrt(variances.of_difference(self.y / below)) / np.abs(below)
        return Estimate(self.y / below, error, *fieller(self.y, below, variances, quantile), documents)
