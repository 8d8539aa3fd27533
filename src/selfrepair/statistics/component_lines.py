"""Lines of downstream components from moments over documents: their per-document sums would be too large to keep.

A line's mean is `m = S / N`, S its sum over the filter's tokens and N their number. What one document contributes to
the error of m is, to first order,

    psi_d = S_d - mu n_d - (m - mu) (N / T) T_d

with S_d its sum, n_d its tokens in the filter, T_d all its scored tokens, and mu the line's mean *at* the threshold. On
other documents the threshold would be another one: a document that brings more than its share of tokens pushes out
those at the threshold, wherever they are, which are worth mu. (With the threshold held fixed, `psi_d = S_d - m n_d`,
and the plain number of documents, intervals covered 85 to 92% with 5 to 60 documents.) mu lies on the straight line,
over the filter's score, between the mean of the filter's tokens and that of the tokens just beyond it. Several texts
have thresholds of their own.

The error is `sqrt(E / (E - 1) * sum psi_d^2) / N` and the interval Student's with E - 1 degrees of freedom, E the
effective number of documents, as for means from the bootstrap (`intervals`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from selfrepair.statistics.estimates import LEVEL, Estimate, worth
from selfrepair.statistics.features import Array


@dataclass(frozen=True)
class TextLines:
    """Component lines of one text, from `accumulate.line_moments` and `DocumentSums.edges`, added up over documents.

    Attributes:
        moments: moments by name, [filter, layer, head, ...].
        thresholds: scores (`Filter.score`) at which the filters begin, [filter, layer, head].
    """

    moments: Mapping[str, np.ndarray]
    thresholds: np.ndarray

    def at_threshold(self, name: str) -> Array:
        """Mean of a line at the threshold, [filter, layer, head, by_layer(, by_head)]; NaN where no token is near."""
        moments = self.moments
        with np.errstate(divide="ignore", invalid="ignore"):
            inside, near = moments["inside_score"] / moments["count"], moments["near_score"] / moments["near_count"]
            share = np.clip((self.thresholds - near) / (inside - near), 0, 1)
            above = moments[f"{name}/sum"] / _beside(moments["count"], moments[f"{name}/sum"])
            beyond = moments[f"{name}/near"] / _beside(moments["near_count"], above)
        return np.asarray(beyond + _beside(share, above) * (above - beyond))

    def spread(self, name: str, mean: np.ndarray) -> Array:
        """`sum psi_d^2`, [filter, layer, head, by_layer(, by_head)], for a line with this mean over all texts."""
        moments, threshold = self.moments, self.at_threshold(name)
        threshold = np.where(np.isnan(threshold), mean, threshold)

        def plain(moment: str) -> Array:
            return _beside(moments[moment], mean)

        with np.errstate(divide="ignore", invalid="ignore"):
            share = (mean - threshold) * np.nan_to_num(plain("count") / plain("scored"))
        squares = (
            moments[f"{name}/squared"]
            - 2 * threshold * moments[f"{name}/product"]
            - 2 * share * moments[f"{name}/scored"]
        )
        counts = threshold**2 * plain("count_squared") + share**2 * plain("scored_squared")
        return np.asarray(np.maximum(squares + counts + 2 * threshold * share * plain("count_scored"), 0))


@dataclass(frozen=True)
class Lines:
    """Component lines of all texts.

    Attributes:
        texts: one for each.
        names: lines there are.
    """

    texts: Sequence[TextLines]
    names: Sequence[str]

    def total(self, moment: str) -> Array:
        """A moment over all texts."""
        return np.asarray(sum(text.moments[moment] for text in self.texts))

    @property
    def documents(self) -> np.ndarray:
        """Documents that have tokens in each filter, [filter, layer, head]."""
        return self.total("documents")

    @property
    def freedom(self) -> Array:
        """Degrees of freedom of errors, [filter, layer, head]; NaN where there are none."""
        return np.where(self.documents > 1, worth(self.documents, self.effective) - 1, np.nan)

    @property
    def effective(self) -> Array:
        """Effective documents, [filter, layer, head]; see `bootstrap.effective_documents`."""
        squares = self.total("count_squared")
        return np.asarray(self.total("count") ** 2 / np.where(squares == 0, 1, squares))

    def estimate(self, name: str) -> Estimate:
        """Mean over tokens, [filter, layer, head, by_layer(, by_head)], with its error and interval over documents."""
        total = self.total(f"{name}/sum")
        count = _beside(self.total("count"), total)
        freedom = _beside(self.freedom, total)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = total / np.where(count == 0, np.nan, count)
            spread = np.asarray(sum(text.spread(name, mean) for text in self.texts))
            error = np.sqrt((freedom + 1) / freedom * spread) / count
        half = error * student.ppf((1 + LEVEL) / 2, freedom)
        documents = np.broadcast_to(_beside(self.documents, total), mean.shape).astype(np.int64)
        return Estimate(mean, error, mean - half, mean + half, documents)


def _beside(cells: np.ndarray, lines: np.ndarray) -> Array:
    """Values of cells [filter, layer, head] with as many axes as lines have."""
    return np.asarray(cells[(..., *(np.newaxis,) * (lines.ndim - cells.ndim))])
