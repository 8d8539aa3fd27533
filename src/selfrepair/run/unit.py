"""A finished unit of work, read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from selfrepair.errors import SelfRepairError
from selfrepair.run.store import Arrays
from selfrepair.statistics.keep import sorted_rows


class Unit:
    """A unit's arrays, read from its file when they are asked for, or held in memory (one that was interrupted).

    Attributes:
        number: which unit of the run it is.
        path: its file.
        arrays: its arrays, where there is no file.
    """

    def __init__(self, number: int, path: Path | None = None, arrays: Arrays | None = None) -> None:
        self.number, self.path, self.arrays = number, path, arrays

    def get(self, name: str) -> np.ndarray:
        """One array.

        Raises:
            SelfRepairError: the file cannot be read.
        """
        if self.arrays is not None:
            return self.arrays[name]
        with _opened(self.path) as file:
            array: np.ndarray = file.get_tensor(name)
        return array

    def starting_with(self, prefix: str) -> Arrays:
        """All arrays whose names start with `prefix`, which is cut off.

        Raises:
            SelfRepairError: the file cannot be read.
        """
        if self.arrays is not None:
            return {n.removeprefix(prefix): v for n, v in self.arrays.items() if n.startswith(prefix)}
        with _opened(self.path) as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}

    def rows(self, layer: int, heads: range) -> Arrays:
        """Kept tokens of some heads of a layer, by column; empty where there are none.

        Raises:
            SelfRepairError: the file cannot be read.
        """
        prefix = f"rows/{layer}/"
        if self.arrays is not None:
            columns = self.starting_with(prefix)
            return _cut(columns, columns["head"], heads) if columns else {}
        with _opened(self.path) as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            slices = {name.removeprefix(prefix): file.get_slice(name) for name in names}
            return _cut(slices, slices["head"][:], heads) if slices else {}


def kept_rows(units: Sequence[Unit], layer: int, heads: range) -> Arrays:
    """Kept tokens of some heads of a layer from all units, ordered by head, window and position; may be empty."""
    parts = [part for unit in units if (part := unit.rows(layer, heads))]
    if not parts:
        return {}
    return sorted_rows({name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])})


def _cut(columns: dict[str, Any], head: np.ndarray, heads: range) -> Arrays:
    """The rows of some heads out of columns that are ordered by head."""
    low, high = np.searchsorted(head, [heads.start, heads.stop]).tolist()
    return {name: values[low:high] for name, values in columns.items()} if low < high else {}


@contextmanager
def _opened(path: Path | None) -> Iterator[Any]:
    assert path is not None
    try:
        with safe_open(path, "numpy") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise SelfRepairError(
            f"Cannot read the unit {path.name}: {error}.", "Resume the run: what is garbled is done again."
        ) from error
