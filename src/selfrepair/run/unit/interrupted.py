"""Interrupted units: their results so far are merged until they are done, and are replaced only by fuller ones."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from selfrepair.errors import SelfRepairError
from selfrepair.run.storage.finished_unit import Unit
from selfrepair.run.storage.store import Store
from selfrepair.run.unit.sweep import STAGE as SWEEP
from selfrepair.run.unit.sweep import CutShort
from selfrepair.statistics.features import INDEX

STAGE = "partial"


def unfinished_units(store: Store, surveyed: Unit, short: CutShort | None = None) -> list[Unit]:
    """Interrupted units that are not finished; the fuller one where a unit was interrupted more than once.

    Args:
        store: the run's units.
        surveyed: its merged survey; what was interrupted under other thresholds does not count.
        short: the one that has just been interrupted, if any; kept on disk where there is room.
    """
    kept = {number: unit for number, unit in store.sound(STAGE).items() if unit.made_of == (surveyed.digest,)}
    if short is not None:
        now = Unit(short.number, arrays=short.arrays, made_of=[surveyed.digest])
        if short.number not in kept or _tokens(kept[short.number]) <= _tokens(now):
            with suppress(SelfRepairError):  # a full disk may have ended it: the older file stays then
                _replace(store, short, surveyed.digest)
            kept[short.number] = now
    finished = store.finished(SWEEP)
    return [unit for number, unit in sorted(kept.items()) if number not in finished]


def forget(store: Store) -> None:
    """Removes the files of interrupted units, all of which are finished now."""
    _remove(_files(store))


def _replace(store: Store, short: CutShort, thresholds: str) -> None:
    """Writes an interrupted unit, and only then removes its earlier file."""
    number = f"{short.number:06d}"
    before = _files(store, number)
    store.write(STAGE, short.number, short.arrays, [thresholds])
    if _files(store, number) != before:  # else it is the same bit for bit, under the same name
        _remove(before)


def _files(store: Store, which: str = "*") -> set[Path]:
    return set(store.units.glob(f"{STAGE}-{which}-*.safetensors"))


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _tokens(unit: Unit) -> float:
    """How many (head, token) pairs a unit has measured."""
    return float(unit.get("features")[..., INDEX["count"]].sum())
