"""Rows of bars, dots and whiskers on one axis: HTML in per cent of its width, so that it fits any screen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from selfrepair.questions.page.markup import Markup, el

_REACH = 1.2  # how far ends may stretch an axis beyond its values, in ranges of the values
_ROOM = 0.04


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`."""

    low: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float], ends: Iterable[float] = ()) -> Axis:
        """An axis with zero, all values, and ends as far as they leave values room to be told apart."""
        known = [0.0, *(value for value in values if math.isfinite(value))]
        low, high = min(known), max(known)
        reach = _REACH * ((high - low) or 1.0)
        limited = [min(max(end, low - reach), high + reach) for end in ends if math.isfinite(end)]
        low, high = min([low, *limited]), max([high, *limited])
        room = _ROOM * ((high - low) or 1.0)
        return cls(low - room, high + room)

    def at(self, value: float) -> float:
        """Where a value is, in per cent of the width; values outside are at the ends."""
        return 100 * min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values on the axis."""
        step = 10 ** math.floor(math.log10((self.high - self.low) / most))
        step *= next(factor for factor in (1, 2, 5, 10) if (self.high - self.low) / (factor * step) <= most)
        first = math.ceil(self.low / step)
        return [count * step for count in range(first, math.floor(self.high / step) + 1)]


def bar(axis: Axis, start: float, end: float, class_: str) -> Markup:
    """From one value to another."""
    left, right = sorted((axis.at(start), axis.at(end)))
    return el("i", class_=f"bar {class_}", style=f"left:{left:.2f}%;width:{max(right - left, 0.3):.2f}%")


def band(axis: Axis, low: float, high: float) -> Markup | None:
    """A range; nothing where it is not known."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    return el("i", class_="band", style=f"left:{axis.at(low):.2f}%;width:{max(axis.at(high) - axis.at(low), 0.4):.2f}%")


def whisker(axis: Axis, low: float, high: float) -> Markup | None:
    """An interval; arrows where it leaves the axis, nothing where there is none."""
    if math.isnan(low) or math.isnan(high):
        return None
    beyond = " ".join(
        ["whisker", *(["beyond-low"] if low < axis.low else []), *(["beyond-high"] if high > axis.high else [])]
    )
    left, right = axis.at(max(low, axis.low)), axis.at(min(high, axis.high))
    return el("i", class_=beyond, style=f"left:{left:.2f}%;width:{right - left:.2f}%")


def point_mark(axis: Axis, value: float, class_: str = "") -> Markup | None:
    """A value; nothing where there is none."""
    return (
        el("i", class_=f"dot {class_}".strip(), style=f"left:{axis.at(value):.2f}%") if math.isfinite(value) else None
    )


def link(axis: Axis, start: float, end: float) -> Markup | None:
    """A line between two values."""
    if not (math.isfinite(start) and math.isfinite(end)):
        return None
    left, right = sorted((axis.at(start), axis.at(end)))
    return el("i", class_="link", style=f"left:{left:.2f}%;width:{right - left:.2f}%")


def row(
    axis: Axis, label: str, marks: Sequence[Markup | None], text: str, title: str, class_: str | None = None
) -> Markup:
    """One line: what it is, its marks, and its numbers.

    Args:
        axis: of all rows.
        label: in front.
        marks: on the track.
        text: behind.
        title: the whole, for the pointer and for those who do not see the marks.
        class_: of the row.
    """
    zero = el("i", class_="zero", style=f"left:{axis.at(0):.2f}%")
    track = el("div", zero, *marks, class_="track", role="img", aria_label=title, title=title)
    return el(
        "div",
        el("span", label, class_="row-label"),
        track,
        el("span", text, class_="row-text"),
        class_=f"row {class_ or ''}".strip(),
    )


def scale(axis: Axis, unit: str, percent: bool = False) -> Markup:
    """The axis under its rows."""
    ticks = axis.ticks()
    marks = [
        el(
            "span",
            f"{100 * tick:.0f}%" if percent else f"{tick:g}",
            style=f"left:{axis.at(tick):.2f}%",
        )
        for tick in ticks
    ]
    return el(
        "div",
        el("span", "", class_="row-label"),
        el("div", *marks, class_="scale"),
        el("span", unit, class_="row-text"),
        class_="row axis",
        aria_hidden="true",
    )
