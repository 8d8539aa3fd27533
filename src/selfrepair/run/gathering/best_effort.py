"""What comes after the sweep (texts of tokens, close-ups, tables, pictures, the page) never costs the sweep."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selfrepair.run.storage.store import UNITS
from selfrepair.run.unit import interrupted, sweep
from selfrepair.terminal import plain


class LeftOut(UserWarning):
    """The run is complete, but something derived from its numbers could not be made."""


@contextmanager
def never_costs_the_run(what: str, again: str = "`selfrepair resume` tries again.") -> Iterator[None]:
    """Reports whatever goes wrong in here; that costs only what was to be made.

    Args:
        what: what was to be made, in the plural, e.g. `pictures`.
        again: how to get it after all.
    """
    try:
        yield
    except (SystemExit, GeneratorExit):
        raise
    except KeyboardInterrupt:
        warn_left_out(what, "interrupted", again)
    except BaseException as problem:  # a model, a tokenizer (whose panics are no `Exception`), a library, a disk
        warn_left_out(what, f"{type(problem).__name__}: {problem}", again)


def warn_left_out(what: str, why: str, again: str) -> None:
    """Warns of what could not be made."""
    message = f"No {what} ({plain(' '.join(why.split()))[:500]}). The run itself is complete. {again}"
    warnings.warn(message, LeftOut, stacklevel=4)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for the units of a run without one of its own; it stays where an error would throw away a sweep."""
    folder = Path(tempfile.mkdtemp(prefix="selfrepair-"))
    try:
        yield folder
    except BaseException as problem:
        if any(any((folder / UNITS).glob(f"{stage}-*")) for stage in (sweep.STAGE, interrupted.STAGE)):
            problem.add_note(
                f"What had been measured is in {folder}: `selfrepair.resume({str(folder)!r}, model)` goes on with it."
            )
        else:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
