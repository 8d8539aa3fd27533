"""Claims that keep the runners of one run, on one machine or on many that share a folder, from doing the same unit.

A runner that wants a unit first announces itself by a file whose name nobody else ever uses, and then looks who else is
there. Of any two runners the one that looks last sees the other, so two never both own a unit; where each sees the
other, both withdraw and try again a little later. Since every name is used once, a runner that removes its own file,
or that of a dead one, can never hit anybody else's, however late.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from selfrepair.errors import SelfRepairError
from selfrepair.reading import read_bytes
from selfrepair.run.storage.claim_holder import Holder

SUFFIX = ".claim"
STALE = 30.0  # seconds without a sign of life after which a claim counts for nothing
_BEAT = 5.0  # seconds between signs of life
_TRIES = 8  # with others who want the same unit at the same moment
_PAUSE = 0.004  # seconds at most after the first try, then twice as long each time
_MOST = 4096  # bytes of a claim


@contextmanager
def claim_unit(folder: Path, name: str) -> Iterator[bool]:
    """Yields whether a unit is ours to do, and shows signs of life as long as it is.

    Args:
        folder: where claims are; it exists.
        name: name of the unit.

    Raises:
        SelfRepairError: the folder cannot be written to.
    """
    claim_path = _taken(folder, name)
    if claim_path is None:
        yield False
        return
    stop = threading.Event()
    beating = threading.Thread(target=_beat, args=(claim_path, stop), daemon=True)
    beating.start()
    try:
        yield True
    finally:
        stop.set()
        beating.join()
        _remove(claim_path)


def claimed(folder: Path) -> list[str]:
    """Names of units that some runner is doing, or was doing when it died."""
    return sorted({path.name.partition(".")[0] for path in folder.glob(f"*{SUFFIX}")})


def _taken(folder: Path, name: str) -> Path | None:
    """Our claim if we got the unit, else None."""
    for attempt in range(_TRIES):
        if _living(_claims(folder, name), time.time()):  # saves a futile announcement
            return None
        claim_path = _announced(folder, name)
        claims = _claims(folder, name)
        others = [path for path in claims if path != claim_path]
        # ours is gone if we were taken for dead meanwhile
        if claim_path in claims and not _living(others, _written(claim_path)):
            for dead in others:
                _remove(dead)
            return claim_path
        _remove(claim_path)
        time.sleep(random.uniform(0, _PAUSE * 2**attempt))
    return None


def _claims(folder: Path, name: str) -> list[Path]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    return [folder / entry for entry in names if entry.startswith(f"{name}.") and entry.endswith(SUFFIX)]


def _announced(folder: Path, name: str) -> Path:
    path = folder / f"{name}.{uuid.uuid4().hex}{SUFFIX}"
    try:
        with path.open("x") as file:
            json.dump(Holder.me().described(), file)
    except OSError as error:
        _remove(path)  # on a full disk it was made, but not filled
        raise SelfRepairError(f"Cannot write to {folder}: {error}.", "Free some space.") from error
    return path


def _living(claims: list[Path], now: float) -> bool:
    return any(_is_living(path, now) for path in claims)


def _is_living(path: Path, now: float) -> bool:
    """Whether a claim's runner has shown a sign of life lately, and is not known to have ended.

    Args:
        path: the claim.
        now: the time by the clock of the disk, which stamps the signs of life: machines' clocks differ.
    """
    age = now - _written(path)  # infinite for one that has gone
    if age >= STALE:
        return False
    holder = _holder(path)
    lives = None if holder is None else holder.lives()
    if age <= -STALE:  # the clock was set back, or was wrong: then only the process itself can tell
        return lives is True
    return lives is not False


def _written(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return float("-inf")


def _holder(path: Path) -> Holder | None:
    """Who holds a claim; None if unknown: it is just being made, or its runner died while making it."""
    try:
        return Holder.parsed(json.loads(read_bytes(path, _MOST)))
    except (OSError, ValueError, RecursionError, SelfRepairError):
        return None


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(_BEAT):
        with suppress(OSError):
            os.utime(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
