"""Numbers over heads - how many are repaired, how far apart they lie - with intervals over documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from selfrepair.paper.numbers import (
    COUNT,
    REPLICATES,
    Array,
    Number,
    Sums,
    bootstrapped,
    divide,
    from_replicates,
)
from selfrepair.statistics.bootstrap import bootstrap_all, document_weights
from selfrepair.statistics.estimators import Scale


@dataclass(frozen=True)
class HeadSums:
    """Columns summed per document and head: a bootstrap of documents moves all heads together, as they share them.

    Attributes:
        sums: by column, [document, head], heads in the order of (layer, head); `count` among them.
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
            rows: with `layer`, `head` and `document`.
            columns: by name, [row].
        """
        _, document = np.unique(rows["document"].to_numpy(), return_inverse=True)
        pairs = rows[["layer", "head"]].to_numpy().reshape(-1, 2)
        heads, head = np.unique(pairs, axis=0, return_inverse=True)
        shape = int(document.max(initial=-1)) + 1, len(heads)
        place = document * shape[1] + head.reshape(-1)
        sums: dict[str, Array] = {
            name: np.bincount(place, values, shape[0] * shape[1]).astype(np.float64).reshape(shape)
            for name, values in {COUNT: np.ones(len(rows)), **columns}.items()
        }
        return cls(sums, heads[:, 0], heads[:, 1])

    def from_layer(self, layer: int) -> HeadSums:
        """The heads of this layer and above."""
        kept = self.layer >= layer
        return HeadSums({name: one[:, kept] for name, one in self.sums.items()}, self.layer[kept], self.heads[kept])

    def number(
        self, name: str, function: Callable[[Sums], Array], scale: Scale = "share", value: float | None = None
    ) -> Number:
        """A function of the sums over documents [..., head]; arguments as those of `numbers.bootstrapped`."""
        if not self.sums[COUNT].size:
            return Number(name, float("nan"))
        return bootstrapped(name, function, self.sums, self.sums[COUNT].sum(1), scale=scale, value=value)

    def share_above(self, name: str, column: str, value: float | None = None) -> Number:
        """Share of heads whose mean of a column is above zero."""
        return self.number(name, lambda sums: share_of(sums[column] > 0, sums[COUNT] > 0), value=value)

    def spread(self, name: str, above: str, below: str) -> Number:
        """How far the 10th and the 90th percentile over heads of a ratio of sums lie apart, less what noise explains.

        Noise adds to the square of a spread what one more resampling adds again: the corrected square is
        `2 v^2 - mean(v_b^2)`, v the spread found and v_b those of replicates.
        """
        counts = self.sums[COUNT].sum(1)
        if not self.sums[COUNT].size:
            return Number(name, float("nan"))

        def squared(sums: Sums) -> Array:
            found = divide(sums[above], sums[below])
            low, high = np.nanquantile(found, [0.1, 0.9], axis=-1)
            return np.asarray((high - low) ** 2)

        weights = document_weights(len(counts), REPLICATES)
        sums = {column: self.sums[column] for column in (above, below)}
        value = float(squared({column: one.sum(0) for column, one in sums.items()}))
        replicates = squared({column: bootstrap_all(one, weights) for column, one in sums.items()})
        square = from_replicates(name, 2 * value - float(np.nanmean(replicates)), replicates, counts)
        found, low, high = (float(np.sqrt(np.maximum(end, 0.0))) for end in (square.value, square.low, square.high))
        return Number(name, found, low, high, square.documents)


def share_of(chosen: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> Array:
    """Share of heads [..., head] that are chosen, of those that are counted."""
    return divide(np.count_nonzero(chosen & among, axis=-1) * 1.0, np.count_nonzero(among, axis=-1) * 1.0)
