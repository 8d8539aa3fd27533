"""Progress for people: a bar in a terminal or notebook, plain lines where there is neither."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Advance = Callable[[float], None]
_LINE_EVERY = 15.0  # seconds between plain lines


def ignore(_amount: float) -> None:
    """Tells nobody."""


@contextmanager
def progress(description: str, total: float, shown: bool = True) -> Iterator[Advance]:
    """Shows how far some work is; the yielded function is told how much more is done.

    Args:
        description: what is being done.
        total: the whole amount of work, in whatever unit.
        shown: False for silence.
    """
    console = Console(stderr=not _in_notebook())
    if not shown:
        yield ignore
    elif console.is_terminal or console.is_jupyter:
        with _bar(console) as bar:
            task = bar.add_task(description, total=total)
            yield lambda amount: bar.advance(task, amount)
    else:
        yield _Lines(description, total)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules


class _Lines:
    """A line now and then, for logs."""

    def __init__(self, description: str, total: float) -> None:
        self.description, self.total, self.done = description, total, 0.0
        self.start = self.last = time.monotonic()

    def __call__(self, amount: float) -> None:
        self.done += amount
        now = time.monotonic()
        if now - self.last >= _LINE_EVERY or self.done >= self.total > self.done - amount:
            self.last = now
            spent = now - self.start
            share = self.done / max(self.total, 1e-9)
            if not self.done:
                print(f"{self.description}: started, {spent:.0f} s", file=sys.stderr, flush=True)
                return
            left = spent * max(0.0, self.total / self.done - 1)
            print(
                f"{self.description}: {share:.0%}, {spent:.0f} s, about {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
