"""Writes names beside some of a drawn panel's points, where they cover nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from selfrepair.pictures.picture import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))  # right, up


def name_notable(axes: Axes, x: np.ndarray, y: np.ndarray, names: Sequence[str], most: int = 12) -> None:
    """Names the points farthest from the crowd; those without room for a name stay unnamed.

    Call it last: moving the axes afterwards would move points away from their names.

    Args:
        axes: the panel's axes.
        x: [point]; y: [point]. Points that are not finite are left out.
        names: [point].
        most: the most points that are named.
    """
    kept = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if not len(kept):
        return
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # settles the layout, so that positions are final
    points = axes.transData.transform(np.column_stack([x[kept], y[kept]]))
    spread = np.maximum(np.ptp(points, axis=0), 1)
    far = np.hypot(*((points - np.median(points, axis=0)) / spread).T)
    legend = axes.get_legend()
    taken = [] if legend is None else [legend.get_window_extent()]
    for point in kept[np.argsort(-far, kind="stable")[:most]]:
        taken += _place(axes, names[point], (float(x[point]), float(y[point])), points, taken)


def _place(axes: Axes, name: str, at: tuple[float, float], points: np.ndarray, taken: list[Bbox]) -> list[Bbox]:
    """Write a name beside its dot on the first side that is free; the box it takes, if there is one."""
    from matplotlib.patheffects import withStroke

    frame = axes.get_window_extent()
    for right, up in SIDES:
        away = 6 if 0 in (right, up) else 3
        text = axes.annotate(
            name, at, (away * right, away * up), textcoords="offset points", fontsize=7.5, color=INK,
            ha={1: "left", 0: "center", -1: "right"}[right],
            va={1: "bottom", 0: "center", -1: "top"}[up], zorder=5,
        )  # fmt: skip
        text.set_in_layout(False)
        text.set_path_effects([withStroke(linewidth=2, foreground="white")])
        box = text.get_window_extent()
        inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        if inside and not box.count_overlaps(taken) and not box.padded(1.5).count_contains(points):
            return [box]
        text.remove()
    return []
