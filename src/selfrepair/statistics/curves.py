"""Self-repair as a curve over quantiles of direct effect, with document-level errors from additive moments.

Sums per document, bin and head would take too much room, and their replicates more; linearised errors need only a few
moments, which add up over documents.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from selfrepair.statistics.estimates import LEVEL, Estimate, worth
from selfrepair.statistics.features import Array
from selfrepair.statistics.fieller import Variances, fieller, freedom

_TAIL = (1 - LEVEL) / 2  # beyond either end of an interval


def bin_edges(direct_effects: np.ndarray, bins: int) -> npt.NDArray[np.floating]:
    """Inner edges of equally full bins of each head's direct effect.

    Args:
        direct_effects: [layer, head, token], clean direct effects of all scored tokens, centred logits.
        bins: number of bins.

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


@dataclass(frozen=True)
class CurveMoments:
    """Moments over documents of what a curve needs; additive over sets of **whole** documents.

    Of each document and bin: Y its sum of values, A and B its tokens below the bin's lower and upper edge, T all its
    tokens. On other documents the edges would be others, so that the share of all tokens below them stays what it is:
    to first order a document contributes

        psi = Y + mu_a (A - a T) - mu_b (B - b T) - m (b - a) T

    to the error of the bin's mean m (times its tokens), with a and b the shares of tokens below the edges and mu_a,
    mu_b the means at the edges, for which the means of the two bins that meet there are averaged. With edges held
    fixed, intervals cover 90 to 92%.

    Attributes:
        documents: int [bin, ...], documents that have tokens in the bin.
        tokens_squared: [bin, ...], sum of squares of a document's tokens in the bin.
        sums: sums of (Y, A, B, T), [4, bin, ...].
        products: sums of products of pairs of them, [4, 4, bin, ...].
    """

    documents: npt.NDArray[np.int64]
    tokens_squared: Array
    sums: Array
    products: Array

    @classmethod
    def of(cls, values: np.ndarray, tokens: np.ndarray) -> CurveMoments:
        """Moments of whole documents.

        Args:
            values: sums of values, [document, bin, ...].
            tokens: [document, bin, ...].
        """
        tokens = np.asarray(tokens, np.float64)
        upper = np.cumsum(tokens, axis=1)
        total = np.broadcast_to(upper[:, -1:], upper.shape)
        parts = np.stack([np.asarray(values, np.float64), upper - tokens, upper, total])
        products = np.einsum("id...,jd...->ij...", parts, parts)
        return cls((tokens > 0).sum(0, dtype=np.int64), (tokens**2).sum(0), parts.sum(1), products)

    def __add__(self, other: CurveMoments) -> CurveMoments:
        """Moments of both sets of documents; the sets must not share one."""
        return CurveMoments(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def mean(self) -> Estimate:
        """Mean of each bin, [bin, ...], with Student's interval by the bin's effective documents."""
        values, lower, upper, total = self.sums
        tokens = upper - lower
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = values / np.where(tokens == 0, np.nan, tokens)
            a, b = np.nan_to_num(lower / total), np.nan_to_num(upper / total)
        edges = np.nan_to_num((mean[1:] + mean[:-1]) / 2)
        none = np.zeros_like(mean[:1])
        at_lower, at_upper = np.concatenate([none, edges]), np.concatenate([edges, none])
        weights = np.stack([np.ones_like(mean), at_lower, -at_upper, at_upper * b - at_lower * a - mean * (b - a)])
        spread = np.maximum(np.einsum("i...,ij...,j...->...", weights, self.products, weights), 0)
        effective = tokens**2 / np.where(self.tokens_squared == 0, 1, self.tokens_squared)
        several = np.where(self.documents > 1, worth(self.documents, effective), np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.sqrt(several / (several - 1) * spread) / np.where(tokens == 0, np.nan, tokens)
        half = error * student.isf(_TAIL, several - 1)
        return Estimate(mean, error, mean - half, mean + half, self.documents)


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
        return Moments(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

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
            *((square - first * second / several) * several / (several - 1) for square, first, second in pairs)
        )
        quantile = student.isf(_TAIL if tail is None else tail, freedom(documents, self.effective))
        below = np.where(self.x == 0, np.nan, self.x)
        error = np.sqrt(variances.of_difference(self.y / below)) / np.abs(below)
        return Estimate(self.y / below, error, *fieller(self.y, below, variances, quantile), documents)
