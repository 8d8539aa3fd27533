"""Numbers over heads - how many are repaired, how far apart they lie - with intervals over documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import t as student

from selfrepair.paper.numbers.over_documents import (
    COUNT,
    REPLICATES,
    Array,
    Number,
    Sums,
    bootstrapped,
    from_replicates,
    quotient,
)
from selfrepair.statistics.bootstrap import bootstrap_all, document_weights, effective_documents
from selfrepair.statistics.discovery import q_values
from selfrepair.statistics.estimates import Estimate, worth
from selfrepair.statistics.estimator import Scale
from selfrepair.statistics.intervals import interval

RATE = 0.05  # false discoveries among heads for which something is shown


@dataclass(frozen=True)
class HeadSums:
    """Columns summed per document and head: a bootstrap of documents moves all heads together, as they share them.

    Attributes:
        sums: sums by column, [document, head], heads in the order of (layer, head); `count` among them.
        layer: [head].
        heads: [head], the head's number in its layer.
    """

    sums: Mapping[str, Array]
    layer: np.ndarray
    heads: np.ndarray

    @classmethod
    def of(cls, rows: pd.DataFrame, columns: Mapping[str, np.ndarray]) -> HeadSums:
        """Sums of (head, token) rows.

        Args:
            rows: a frame with `layer`, `head` and `document`.
            columns: values [row] by name.
        """
        _, document = np.unique(rows["document"].to_numpy(), return_inverse=True)
        pairs = rows[["layer", "head"]].to_numpy().reshape(-1, 2)
        heads, head = np.unique(pairs, axis=0, return_inverse=True)
        shape = int(document.max(initial=-1)) + 1, len(heads)
        cells = document * shape[1] + head.reshape(-1)
        sums: dict[str, Array] = {
            name: np.bincount(cells, values, shape[0] * shape[1]).astype(np.float64).reshape(shape)
            for name, values in {COUNT: np.ones(len(rows)), **columns}.items()
        }
        return cls(sums, heads[:, 0], heads[:, 1])

    def from_layer(self, layer: int) -> HeadSums:
        """The heads of this layer and above."""
        kept = self.layer >= layer
        return HeadSums({name: table[:, kept] for name, table in self.sums.items()}, self.layer[kept], self.heads[kept])

    def number(
        self, name: str, function: Callable[[Sums], Array], scale: Scale = "share", value: float | None = None
    ) -> Number:
        """A function of the sums over documents [..., head]; arguments as those of `bootstrapped`."""
        if not self.sums[COUNT].size:
            return Number(name, float("nan"))
        return bootstrapped(name, function, self.sums, self.sums[COUNT].sum(1), scale=scale, value=value)

    def share_above(self, name: str, column: str, value: float | None = None) -> Number:
        """Share of heads whose mean of a column is above zero."""
        return self.number(name, lambda sums: share_of(sums[column] > 0, sums[COUNT] > 0), value=value)

    def share_shown(
        self,
        name: str,
        margins: Callable[[Sums], Sequence[Array]],
        among: np.ndarray | None = None,
        value: float | None = None,
    ) -> Number:
        """Share of heads for which something holds, between the share shown to and the share not shown not to.

        A share of heads with a mean above zero is near one half if there is nothing but noise. So its ends are not
        those of a sampling interval: the lower one is the share of heads for which every margin is shown to be above
        zero, the upper one leaves out those for which some margin is shown to be below zero; each at a false discovery
        rate of 5% over heads.

        Args:
            name: the number's name.
            margins: maps sums [..., head] to one or several [..., head], each above zero if a condition holds.
            among: [head], which heads count; those that have tokens by default.
            value: the share, if it is known from more tokens than are in the sums.
        """
        counts = self.sums[COUNT]
        counted = (counts.sum(0) > 0) & (True if among is None else among)
        if not counted.any():
            return Number(name, float("nan"))
        weights = document_weights(len(counts), REPLICATES)
        values = margins({column: table.sum(0) for column, table in self.sums.items()})
        drawn = margins({column: bootstrap_all(table, weights) for column, table in self.sums.items()})
        filled, effective = np.count_nonzero(counts, axis=0), effective_documents(counts)
        each = [
            interval(observed, replicates, filled, effective)
            for observed, replicates in zip(values, drawn, strict=True)
        ]
        above = np.max([_p_above_zero(estimate, effective) for estimate in each], axis=0)
        below = np.min([1 - _p_above_zero(estimate, effective) for estimate in each], axis=0) * len(each)
        shown, shown_not = (q_values(np.where(counted, np.minimum(p, 1), np.nan)) <= RATE for p in (above, below))
        holds = np.all([margin > 0 for margin in values], axis=0) & counted
        total = counted.sum()
        plain = holds.sum() / total if value is None else value
        documents = int(np.count_nonzero(counts.sum(1)))
        return Number(
            name, float(plain), float(shown.sum() / total), float((total - shown_not.sum()) / total), documents
        )

    def spread(self, name: str, above: str, below: str) -> Number:
        """Distance of the 10th and the 90th percentile over heads of a ratio of sums, less what noise explains.

        Noise adds to the square of a spread what one more resampling adds again: the corrected square is
        `2 v^2 - mean(v_b^2)`, v the spread found and v_b those of replicates.
        """
        counts = self.sums[COUNT].sum(1)
        if not self.sums[COUNT].size:
            return Number(name, float("nan"))

        def squared(sums: Sums) -> Array:
            ratios = quotient(sums[above], sums[below])
            low, high = np.nanquantile(ratios, [0.1, 0.9], axis=-1)
            return np.asarray((high - low) ** 2)

        weights = document_weights(len(counts), REPLICATES)
        sums = {column: self.sums[column] for column in (above, below)}
        value = float(squared({column: table.sum(0) for column, table in sums.items()}))
        replicates = squared({column: bootstrap_all(table, weights) for column, table in sums.items()})
        square = from_replicates(name, 2 * value - float(np.nanmean(replicates)), replicates, counts)
        spread, low, high = (float(np.sqrt(np.maximum(end, 0.0))) for end in (square.value, square.low, square.high))
        return Number(name, spread, low, high, square.documents)


def _p_above_zero(estimate: Estimate, effective: np.ndarray) -> Array:
    """One-sided Student's t test of a mean against zero; NaN without a standard error."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(
            student.sf(estimate.value / estimate.standard_error, worth(estimate.documents, effective) - 1)
        )


def share_of(chosen: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> Array:
    """Share of heads [..., head] that are chosen, of those that are counted."""
    return quotient(np.count_nonzero(chosen & among, axis=-1) * 1.0, np.count_nonzero(among, axis=-1) * 1.0)
