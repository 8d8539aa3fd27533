"""Keeps a few whole windows, every scored token for every head, to be read as text with its repair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from selfrepair.results.extras import SCHEMAS
from selfrepair.run.planning.job import Design
from selfrepair.run.storage.unit_file import Arrays
from selfrepair.statistics.accumulate import QUANTITIES, TokenEffects

PASSAGES = 4  # windows, however large the corpus


def chosen_windows(design: Design) -> np.ndarray:
    """Numbers of the windows that are kept whole: spread evenly over those that are measured exactly; none where only
    chosen tokens are measured."""
    filled = np.flatnonzero(design.counted.any(1)) if not design.sparse else np.zeros(0, np.int64)
    spread = np.linspace(0, len(filled) - 1, min(PASSAGES, len(filled))).round().astype(int)
    chosen: np.ndarray = filled[np.unique(spread)]
    return chosen


class Passages:
    """Collects all scored tokens of the chosen windows, chunk by chunk."""

    def __init__(self, design: Design) -> None:
        self._counted = design.counted
        self._chosen = chosen_windows(design)
        self._parts: dict[int, list[Arrays]] = {}

    def add(self, effects: TokenEffects) -> None:
        """Keeps what a chunk holds of the chosen windows; its windows are numbers of the corpus."""
        chosen = np.isin(effects.windows, self._chosen)[:, None] & self._counted[effects.windows]
        if not chosen.any():
            return
        window, position = np.nonzero(chosen)
        heads = len(effects.heads)
        part = {
            "head": np.repeat(effects.heads, len(window)),
            "window": np.tile(effects.windows[window], heads),
            "position": np.tile(position, heads),
        }
        part |= {name: effects.quantities[name][:, window, position].reshape(-1) for name in QUANTITIES}
        self._parts.setdefault(effects.layer, []).append(part)

    def arrays(self) -> Arrays:
        """By layer, `passages/L/<column>`, ordered by head, window and position."""
        arrays: Arrays = {}
        for layer, parts in sorted(self._parts.items()):
            rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            order = np.lexsort((rows["position"], rows["window"], rows["head"]))
            arrays |= {f"passages/{layer}/{name}": values[order] for name, values in rows.items()}
        return arrays


def passages_table(units: Sequence[tuple[int, Arrays]]) -> pa.Table | None:
    """The passages of all units, ordered by layer, head, window and position; None where units kept none.

    Args:
        units: number of the first window of its text, and arrays `L/<column>`, of each.
    """
    tables = []
    for layer in sorted({int(name.split("/")[0]) for _, unit in units for name in unit}):
        parts = [
            unit | {f"{layer}/window": unit[f"{layer}/window"] + start}
            for start, unit in units
            if f"{layer}/head" in unit
        ]
        names = ("head", "window", "position", *QUANTITIES)
        rows = {name: np.concatenate([part[f"{layer}/{name}"] for part in parts]) for name in names}
        order = np.lexsort((rows["position"], rows["window"], rows["head"]))
        rows = {name: values[order] for name, values in rows.items()} | {"layer": np.full(len(order), layer)}
        schema = SCHEMAS["passages"]
        tables.append(pa.table([pa.array(rows[field.name]).cast(field.type) for field in schema], schema=schema))
    return pa.concat_tables(tables) if tables else None
