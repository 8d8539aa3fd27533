"""A finished unit of work, read piece by piece; every piece is verified as it is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from selfrepair.results.proven import Damaged
from selfrepair.run.storage.unit_file import FIX, NAME, Arrays, Sealed, unsealed
from selfrepair.statistics.keep import sorted_rows


class Unit:
    """A unit's arrays, read from its file when they are asked for, or held in memory (one that was interrupted).

    All that gives arrays raises `Damaged` where the file is gone, or is not what was written.

    Attributes:
        number: which unit of the run it is.
        path: its file.
        arrays: its arrays, where there is no file.
    """

    def __init__(
        self, number: int, path: Path | None = None, arrays: Arrays | None = None, made_of: Sequence[str] = ()
    ) -> None:
        self.number, self.path, self.arrays, self._made_of = number, path, arrays, tuple(made_of)

    @property
    def digest(self) -> str:
        """Digest of the unit; empty if it is only in memory."""
        match = None if self.path is None else NAME.fullmatch(self.path.name)
        return "" if match is None else match["digest"]

    @property
    def made_of(self) -> tuple[str, ...]:
        """Digests of the units that this one was made from."""
        if self.path is None:
            return self._made_of
        with unsealed(self.path) as file:
            return file.label.made_of

    def require_made_of(self, digests: Sequence[str], what: str) -> None:
        """Refuses a unit that was made from other units than those it is combined with.

        Args:
            digests: digests of the units it should rest on.
            what: name of these, for the message.

        Raises:
            Damaged: it rests on others.
        """
        if self.made_of != tuple(digests):
            unit_name = f"unit {self.number}" if self.path is None else str(self.path)
            problem = f"{unit_name} was made with {what} that are not those of this folder."
            raise Damaged(self.path or Path(), problem, FIX)

    def get(self, name: str) -> np.ndarray:
        """One array."""
        if self.arrays is not None:
            return self.arrays[name]
        assert self.path is not None
        with unsealed(self.path) as file:
            return file.array(name)

    def part(self, name: str, layer: int, heads: range) -> np.ndarray:
        """Some heads of a layer out of an array [layer, head, ...]; no more of the file is read."""
        if self.arrays is not None:
            return self.arrays[name][layer, heads.start : heads.stop]
        assert self.path is not None
        with unsealed(self.path) as file:
            return file.rows(name, heads.start, heads.stop, layer)

    def starting_with(self, prefix: str, but: Sequence[str] = ()) -> Arrays:
        """All arrays whose names start with `prefix`, which is cut off; those named in `but` left out."""
        if self.arrays is not None:
            return {n.removeprefix(prefix): v for n, v in self.arrays.items() if n.startswith(prefix) and n not in but}
        assert self.path is not None
        with unsealed(self.path) as file:
            return {name.removeprefix(prefix): file.array(name) for name in file.names(prefix) if name not in but}

    def rows(self, layer: int, heads: range, table: str = "rows") -> Arrays:
        """Kept tokens of some heads of a layer, by column; empty where there are none.

        Args:
            layer: the layer.
            heads: its heads.
            table: `rows`, or `surrogate` for those of all documents in two phases.
        """
        prefix = f"{table}/{layer}/"
        if self.arrays is not None:
            columns = self.starting_with(prefix)
            low, high = _between(columns["head"], heads) if columns else (0, 0)
            return {name: values[low:high] for name, values in columns.items()} if low < high else {}
        assert self.path is not None
        with unsealed(self.path) as file:
            return _rows(file, prefix, heads)


def _rows(file: Sealed, prefix: str, heads: range) -> Arrays:
    names = file.names(prefix)
    low, high = _between(file.array(f"{prefix}head"), heads) if names else (0, 0)
    return {name.removeprefix(prefix): file.rows(name, low, high) for name in names} if low < high else {}


def kept_rows(units: Sequence[Unit], layer: int, heads: range, table: str = "rows") -> Arrays:
    """Kept tokens of some heads of a layer from all units, ordered by head, window and position; may be empty."""
    parts = [part for unit in units if (part := unit.rows(layer, heads, table))]
    if not parts:
        return {}
    return sorted_rows({name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])})


def _between(head: np.ndarray, heads: range) -> tuple[int, int]:
    """The slice of some heads in rows ordered by head."""
    low, high = np.searchsorted(head, [heads.start, heads.stop]).tolist()
    return low, high
