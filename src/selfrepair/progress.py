"""Progress for people: a bar in a terminal or notebook, plain lines where there is neither."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from selfrepair.terminal import Console

Advance = Callable[[float], None]
_LINE_EVERY, _CELL_EVERY = 15.0, 0.5  # seconds between plain lines; between renewals in a notebook


def ignore(_amount: float) -> None:
    """Ignores progress."""


class Meter:
    """How far some work is, how fast it goes, how long the rest will take, and what has been found so far.

    Args:
        total: tokens to be done.
        show: called after every change.
        unit: unit of the rate.
    """

    def __init__(self, total: float, show: Callable[[Meter], None], unit: str = "tokens") -> None:
        self.total, self._show, self._unit = total, show, unit
        self.done = self._before = 0.0
        self.found = ""
        self._start = time.monotonic()
        self._first: tuple[float, float] | None = None

    def __call__(self, tokens: float) -> None:
        """Counts further tokens as done."""
        self.done += tokens
        self._first = self._first or (time.monotonic(), self.done)
        self._show(self)

    def already(self, tokens: float) -> None:
        """Counts tokens that were done before; they do not count for the rate."""
        self._before += tokens
        self.done += tokens

    def say(self, line: str) -> None:
        """Sets the line that shows the latest result."""
        self.found = line

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    @property
    def share(self) -> float:
        """Share of the work that is done."""
        return self.done / max(self.total, 1e-9)

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return (self.done - self._before) / max(self.seconds, 1e-9)

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take, at the pace since the first step; None before there is one.

        The first step may have been compiled, or have read the weights from disk.
        """
        if self._first is None:
            return None
        begun, done = self._first
        if self.done <= done:
            return None
        return max(0.0, self.total - self.done) * (time.monotonic() - begun) / (self.done - done)

    def describe(self) -> str:
        """Rate, remaining time and what has been found so far."""
        parts = [f"{self.rate:,.3g} {self._unit}/s"] if self.rate > 0 else []
        if self.left is not None and self.share < 1:
            parts.append(f"about {clock(self.left)} left")
        return "; ".join([part for part in (", ".join(parts), self.found) if part])


def clock(seconds: float) -> str:
    """`35 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def say(line: str, shown: bool = True) -> None:
    """Prints a line of text where progress is shown."""
    if shown:
        Console(stderr=not _in_notebook()).print(line, soft_wrap=True)


@contextmanager
def progress(description: str, tokens: float, shown: bool = True, unit: str = "tokens") -> Iterator[Meter]:
    """Shows how far some work is; call the yielded meter with the amount of work just done.

    Args:
        description: description of the work.
        tokens: the whole amount of work.
        shown: False for silence.
        unit: unit of the work.
    """
    console = Console(stderr=not _in_notebook())
    if not shown:
        yield Meter(tokens, lambda _meter: None, unit)
    elif console.is_jupyter:
        yield Meter(tokens, _Cell(description), unit)
    elif console.is_terminal:
        with _bar(console) as bar:
            task = bar.add_task(description, total=tokens, results="")
            yield Meter(tokens, lambda meter: bar.update(task, completed=meter.done, results=meter.describe()), unit)
    else:
        yield Meter(tokens, _Lines(description), unit)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[results]}", markup=False),
        console=console,
    )


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules


class _Lines:
    """A line now and then, for logs."""

    every = _LINE_EVERY

    def __init__(self, description: str) -> None:
        self.description, self.last, self.complete = description, time.monotonic(), False

    def __call__(self, meter: Meter) -> None:
        now, complete = time.monotonic(), meter.share >= 1
        if now - self.last >= self.every or complete > self.complete:
            self.last, self.complete = now, complete
            parts = [
                f"{meter.share:.0%}",
                clock(meter.seconds),
                *([described] if (described := meter.describe()) else []),
            ]
            self.put(f"{self.description}: {', '.join(parts)}", meter.share)

    def put(self, line: str, _share: float) -> None:
        """Writes a line."""
        print(line, file=sys.stderr, flush=True)


class _Cell(_Lines):
    """One line below a notebook's cell, renewed in place; needs no widgets."""

    every = _CELL_EVERY

    def __init__(self, description: str) -> None:
        from IPython.display import display

        super().__init__(description)
        self._line: Any = display({"text/plain": description}, raw=True, display_id=True)

    def put(self, line: str, share: float) -> None:
        """Renews the line."""
        full = round(20 * min(share, 1))
        self._line.update({"text/plain": f"{'━' * full}{'─' * (20 - full)} {line}"}, raw=True)
