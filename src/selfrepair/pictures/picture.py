"""Figures as descriptions: panels of marks, which `with_matplotlib` draws as PNG and SVG and `with_plotly` as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["points", "line", "steps", "bars", "density"]
INK, FAINT = "#222222", "#8a8a8a"
PALETTE = ("#3b6ea5", "#c2410c", "#2f855a", "#7b4fa3", "#b7791f", "#4a5568", "#b83280", "#0f766e")


@dataclass(frozen=True)
class Marks:
    """One series of marks.

    Attributes:
        x: [mark].
        y: [mark]; for `bars` their heights, for `density` the second coordinate.
        kind: `points`, `line`, `steps` (outline of a histogram, `x` are bin edges, one more than `y`), `bars`, or
            `density` (points so many that they are drawn as counts per cell).
        label: its name in the legend; not shown if empty.
        colour: one colour for all.
        shade: [mark], values for a colour scale, instead of a colour.
        names: [mark], shown on hovering.
        x_error: [2, mark], lengths below and above.
        y_error: the same.
        size: diameter of points, in points.
        opacity: 0 to 1.
        dashed: lines only.
        hollow: whether points are outlines.
        base: where `bars` start.
    """

    x: np.ndarray
    y: np.ndarray
    kind: Kind = "points"
    label: str = ""
    colour: str = PALETTE[0]
    shade: np.ndarray | None = None
    names: Sequence[str] = ()
    x_error: np.ndarray | None = None
    y_error: np.ndarray | None = None
    size: float = 4.5
    opacity: float = 0.9
    dashed: bool = False
    hollow: bool = False
    base: float = 0.0


@dataclass(frozen=True)
class Rule:
    """A straight line across the panel, `y = slope x + at`; vertical at `x = at` if `slope` is None."""

    slope: float | None
    at: float = 0.0
    label: str = ""
    colour: str = INK


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: the title above it.
        x_label: the x axis' label, with units.
        y_label: the y axis' label, with units.
        marks: drawn in this order.
        rules: lines such as `y = -x`.
        x_range: limits of the x axis; chosen from the data if None.
        y_range: limits of the y axis.
        x_log: logarithmic x axis.
        x_ticks: positions of ticks on the x axis; chosen by the library if empty.
        categories: names at x = 0, 1, 2 ...
        notes: (x, y, text) written into the panel.
    """

    title: str
    x_label: str
    y_label: str
    marks: tuple[Marks, ...]
    rules: tuple[Rule, ...] = ()
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    x_log: bool = False
    x_ticks: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    notes: tuple[tuple[float, float, str], ...] = ()

    @property
    def outlines(self) -> int:
        """Number of outlines of histograms."""
        return sum(marks.kind == "steps" for marks in self.marks)

    def unseen(self) -> str:
        """What the limits hide, in words: points outside the frame, and intervals of points inside that reach out of
        it; empty if nothing is hidden."""
        points, outside, cut = 0, 0, 0
        for marks in self.marks:
            if marks.kind not in ("points", "density"):
                continue
            finite = np.isfinite(marks.x) & np.isfinite(marks.y)
            inside, within = finite.copy(), finite.copy()
            for values, error, limits in (
                (marks.x, marks.x_error, self.x_range),
                (marks.y, marks.y_error, self.y_range),
            ):
                if limits is None:
                    continue
                below, above = (0.0, 0.0) if error is None else np.nan_to_num(error)
                inside &= (values >= limits[0]) & (values <= limits[1])
                within &= (values - below >= limits[0]) & (values + above <= limits[1])
            points, outside = points + int(finite.sum()), outside + int((finite & ~inside).sum())
            cut += int((inside & ~within).sum())
        hidden = [f"{outside:,} of {points:,} points outside the frame"] if outside else []
        hidden += [f"{cut:,} of {points - outside:,} intervals cut at the frame"] if cut else []
        return f"({'; '.join(hidden)})" if hidden else ""


@dataclass(frozen=True)
class Picture:
    """Panels with one colour scale.

    Attributes:
        panels: the panels, in reading order.
        columns: panels in a row.
        shade_label: the colour scale's label.
        shade_range: its ends; chosen from the data if None.
        diverging: whether zero is in its middle.
        heights: relative heights of the rows of panels; all the same if empty.
    """

    panels: tuple[Panel, ...]
    columns: int = 2
    shade_label: str = ""
    shade_range: tuple[float, float] | None = None
    diverging: bool = False
    heights: tuple[float, ...] = ()

    def shaded(self) -> list[np.ndarray]:
        """All values of the colour scale, one array for each series that has them."""
        return [marks.shade for panel in self.panels for marks in panel.marks if marks.shade is not None]

    def shades(self) -> tuple[float, float] | None:
        """Ends of the colour scale, None if nothing is shaded."""
        values = self.shaded()
        if not values:
            return None
        if self.shade_range is not None:
            return self.shade_range
        every = np.concatenate([np.ravel(value) for value in values])
        every = every[np.isfinite(every)]
        if not every.size:
            return 0.0, 1.0
        if self.diverging:
            reach = float(np.quantile(np.abs(every), 0.98)) or 1.0
            return -reach, reach
        low, high = float(every.min()), float(every.max())
        return (low, high) if high > low else (low - 0.5, high + 0.5)


CELLS = 48  # cells of a density along each axis
SPARSE = 4  # a cell of a density with fewer tokens shows its points
DENSITY_LABEL = f"tokens per cell ({SPARSE} or more)"
DENSE = 1500  # points from which a panel shows counts per cell under its points


def scatter(
    x: np.ndarray, y: np.ndarray, label: str = "", colour: str = PALETTE[0], shade: np.ndarray | None = None
) -> tuple[Marks, ...]:
    """Points of tokens: drawn singly if they are few, as counts per cell if they are many.

    Args:
        x: [token].
        y: [token].
        label: their name in the legend.
        colour: colour of the points.
        shade: values for a colour scale; then always points.
    """
    if shade is None and len(x) > DENSE:
        return (Marks(x, y, "density", label=label, colour=colour),)
    size, opacity = (3.5, 0.75) if len(x) < 300 else (2.6, 0.5)
    return (Marks(x, y, label=label, colour=colour, shade=shade, size=size, opacity=opacity),)


def histogram(values: np.ndarray, edges: np.ndarray, label: str, colour: str) -> Marks:
    """Outline of the share of values in each bin; values outside go to the outermost bins."""
    inside = np.clip(values, edges[0], edges[-1])
    counts, _ = np.histogram(inside, edges)
    return Marks(edges, counts / max(len(values), 1), "steps", label=label, colour=colour)


def symmetric(values: Sequence[np.ndarray], least: float = 0.0, quantile: float = 0.995) -> tuple[float, float]:
    """Limits around zero that hold nearly all values."""
    every = np.concatenate([np.ravel(value) for value in values]) if values else np.zeros(0)
    every = every[np.isfinite(every)]
    reach = max(float(np.quantile(np.abs(every), quantile)) if every.size else 1.0, least) * 1.08 or 1.0
    return -reach, reach


def square(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Limits for both axes that hold all points, with some room."""
    both = np.isfinite(x) & np.isfinite(y)
    every = np.concatenate([x[both], y[both]])
    low, high = (float(every.min()), float(every.max())) if every.size else (0.0, 1.0)
    room = 0.07 * (high - low) or 0.1
    return low - room, high + room
