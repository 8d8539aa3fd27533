"""Lines of downstream components from moments over documents: their per-document sums would be too large to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from selfrepair.statistics.estimates import Estimate, with_interval


@dataclass(frozen=True)
class Lines:
    """Moments of component lines over whole documents, from `accumulate.line_moments`, added up over sets of them.

    Attributes:
        moments: by name; `count`, `count_squared`, `documents`, and `<line>/sum`, `<line>/squared`,
            `<line>/product`.
        names: lines there are.
    """

    moments: Mapping[str, np.ndarray]
    names: Sequence[str]

    def estimate(self, name: str) -> Estimate:
        """Mean over tokens [filter, layer, head, by_layer(, by_head)] with its linearised document-level error.

        `m = sum_d S_d / sum_d n_d`, error `sqrt(D / (D - 1) sum_d (S_d - m n_d)^2) / sum_d n_d`.
        """
        total, squared, product = (self.moments[f"{name}/{moment}"] for moment in ("sum", "squared", "product"))
        axes = (..., *(np.newaxis,) * (total.ndim - self.moments["count"].ndim))
        count = self.moments["count"][axes]
        count_squared, documents = self.moments["count_squared"][axes], self.moments["documents"][axes]
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = total / np.where(count == 0, np.nan, count)
            spread = np.maximum(squared - 2 * mean * product + mean**2 * count_squared, 0)
            error = np.sqrt(documents / np.where(documents < 2, np.nan, documents - 1) * spread) / count
        return with_interval(mean, error, np.broadcast_to(documents, mean.shape))
