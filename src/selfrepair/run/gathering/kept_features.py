"""Features of kept tokens, made when asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from selfrepair.run.storage.unit_file import Arrays
from selfrepair.statistics.accumulate import QUANTITIES
from selfrepair.statistics.features import features


@dataclass(frozen=True)
class KeptFeatures:
    """Features of some rows: those of all at once would take many times the memory of the rows.

    Attributes:
        rows: rows by column.
        kept: places of those meant [token].
        negligible: see `selfrepair.statistics.features.features`.
    """

    rows: Arrays
    kept: np.ndarray
    negligible: float

    def __getitem__(self, tokens: np.ndarray, /) -> np.ndarray:
        kept_rows = self.kept[tokens]
        return features({name: self.rows[name][kept_rows] for name in QUANTITIES}, self.negligible)
