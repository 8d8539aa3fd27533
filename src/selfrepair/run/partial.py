"""Units that were interrupted: what they had come to is merged until they are done, and never gives way to less."""

from __future__ import annotations

from contextlib import suppress

from selfrepair.errors import SelfRepairError
from selfrepair.run.store import Store
from selfrepair.run.sweep import STAGE as SWEEP
from selfrepair.run.sweep import CutShort
from selfrepair.run.unit import Unit
from selfrepair.statistics.features import INDEX

STAGE = "partial"


def unfinished(store: Store, short: CutShort | None = None) -> list[Unit]:
    """Interrupted units that are not finished; the fuller one where a unit was interrupted more than once.

    Args:
        store: the run's units.
        short: the one that has just been interrupted, if any; kept on disk where there is room.
    """
    kept = {number: Unit(number, path) for number, path in store.sound(STAGE).items()}
    if short is not None:
        now = Unit(short.number, arrays=short.arrays)
        if short.number not in kept or _tokens(kept[short.number]) <= _tokens(now):
            _forget(store, short.number)
            with suppress(SelfRepairError):  # the disk may be what ended it
                store.write(STAGE, short.number, short.arrays)
            kept[short.number] = now
    finished = store.finished(SWEEP)
    return [unit for number, unit in sorted(kept.items()) if number not in finished]


def forget(store: Store) -> None:
    """Removes what was kept of interrupted units, all of which are finished now."""
    for number in store.finished(STAGE):
        _forget(store, number)


def _forget(store: Store, number: int) -> None:
    for path in store.units.glob(f"{STAGE}-{number:06d}-*.safetensors"):
        path.unlink(missing_ok=True)


def _tokens(unit: Unit) -> float:
    """How many (head, token) pairs a unit has measured."""
    return float(unit.get("features")[..., INDEX["count"]].sum())
