"""Pictures as PNG and SVG, with matplotlib; no display and no pyplot state."""

from __future__ import annotations

import io
from collections.abc import Callable
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from selfrepair.errors import SelfRepairError
from selfrepair.pictures.picture import CELLS, DENSITY_LABEL, FAINT, INK, SPARSE, Marks, Panel, Picture, Rule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure

DPI = 160
WIDTH, HEIGHT = 4.6, 3.7  # of a panel, inches
_TWO_COLUMNS = 26  # letters of a name, of which two go beside each other under a panel


def draw(picture: Picture, title: str = "", size: tuple[float, float] | None = None) -> Figure:
    """The picture as a matplotlib figure, which notebooks show by themselves.

    Args:
        picture: the picture to draw.
        title: the title above it.
        size: size of the figure in inches; by default what its panels need.

    Raises:
        SelfRepairError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as problem:
        raise SelfRepairError("Figures need matplotlib.", "pip install 'selfrepair[plots]'") from problem
    columns = min(picture.columns, len(picture.panels))
    rows = -(-len(picture.panels) // columns)
    alone = 1.3 if columns == 1 else 1.0
    tall = sum(picture.heights) if picture.heights else rows

    class Shown(Figure):
        """A figure that notebooks show by themselves."""

        def _repr_png_(self) -> bytes:
            content = io.BytesIO()
            self.savefig(content, format="png", dpi=110)
            return content.getvalue()

    needed = (WIDTH * columns * alone, HEIGHT * tall * alone + 0.35)
    figure = Shown(size or needed, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, height_ratios=picture.heights or None)
    ends = picture.shades()
    for axes, panel in zip(grid.ravel(), picture.panels, strict=False):
        _panel(axes, panel, picture, ends)
    for axes in grid.ravel()[len(picture.panels) :]:
        axes.set_axis_off()
    if ends is not None:
        _colour_bar(figure, grid, picture, ends)
    if title:
        wide = int(14 * WIDTH * columns * alone)
        figure.suptitle("\n".join(wrap(title, wide)), fontsize=12, color=INK, parse_math=False)
    return figure


def image(picture: Picture, title: str, kind: str) -> bytes:
    """The picture's bytes.

    Args:
        picture: the picture to draw.
        title: the title above it.
        kind: `png` or `svg`.
    """
    content = io.BytesIO()
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "selfrepair", "svg.fonttype": "none"}):
        draw(picture, title).savefig(content, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
    return content.getvalue()


def _panel(axes: Axes, panel: Panel, picture: Picture, ends: tuple[float, float] | None) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8.5, length=3)
    axes.grid(axis="y", color="#ececec", linewidth=0.7)
    axes.set_axisbelow(True)
    for marks in panel.marks:
        _MARKS[marks.kind](axes, marks, panel, picture, ends)
    axes.margins(x=0.13 if panel.notes else 0.05)  # room for names
    axes.autoscale_view()  # before autoscaling is turned off
    axes.autoscale(False)  # rules must not widen the limits
    for choose, limits in ((axes.set_xlim, panel.x_range), (axes.set_ylim, panel.y_range)):
        if limits is not None:
            choose(*limits)
    if panel.x_log:
        axes.set_xscale("log")
    elif panel.x_ticks:
        axes.set_xticks(panel.x_ticks)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))
    for rule in panel.rules:
        _rule(axes, rule)
    if panel.categories and panel.x_range is None:
        axes.set_xlim(-0.6, len(panel.categories) - 0.4)
    if panel.categories:
        axes.set_xticks(range(len(panel.categories)), panel.categories, rotation=_turn(panel.categories))
    for x, y, text in panel.notes:
        axes.annotate(
            text, (x, y), (4, 3), textcoords="offset points", fontsize=7, color=INK, parse_math=False, clip_on=True
        ).set_in_layout(False)
    axes.set_title("\n".join(wrap(panel.title, 52)), fontsize=9.5, color=INK, loc="left", parse_math=False)
    axes.set_xlabel("\n".join(filter(None, (panel.x_label, panel.unseen()))), fontsize=9, color=INK)
    axes.set_ylabel(panel.y_label, fontsize=9, color=INK)
    if axes.get_legend_handles_labels()[1]:
        _legend(axes, under=any(marks.y_error is not None for marks in panel.marks))


def _legend(axes: Axes, under: bool) -> None:
    """Legend of marks and rules: where there is room, or `under` the panel, where it cannot hide an error bar."""
    look: dict[str, Any] = {"frameon": True, "framealpha": 0.85, "edgecolor": "none", "fontsize": 7.5}
    if not under:
        axes.legend(loc="best", **look)
        return
    from matplotlib.transforms import ScaledTranslation

    box = axes.get_tightbbox()
    assert box is not None
    taken = (axes.bbox.y0 - box.y0) / axes.figure.dpi  # inches, by ticks and the axis label
    below = axes.transAxes + ScaledTranslation(0, -taken, axes.figure.dpi_scale_trans)
    # names that are too long for two columns would push panels apart
    look["ncols"] = 2 if max(map(len, axes.get_legend_handles_labels()[1])) <= _TWO_COLUMNS else 1
    axes.legend(loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=below, borderaxespad=0.2, **look)


def _turn(names: tuple[str, ...]) -> int:
    return 90 if len(names) > 8 else 25 if max(map(len, names)) > 9 else 0


def _points(axes: Axes, marks: Marks, _panel: Panel, picture: Picture, ends: tuple[float, float] | None) -> None:
    if marks.x_error is not None or marks.y_error is not None:
        axes.errorbar(
            marks.x,
            marks.y,
            marks.y_error,
            marks.x_error,
            fmt="none",
            ecolor=FAINT,
            elinewidth=0.6,
            alpha=0.55 if len(marks.x) <= 60 else 0.3 if len(marks.x) <= 150 else 0.14,
            zorder=2,
        )
    look: dict[str, Any] = {"color": marks.colour, "edgecolors": _edge(marks, picture), "linewidths": 0.35}
    if marks.hollow:
        look = {"facecolors": "white", "edgecolors": marks.colour, "linewidths": 0.9}
    if marks.shade is not None and ends is not None:
        look |= {"c": marks.shade, "cmap": _map(picture), "vmin": ends[0], "vmax": ends[1]}
        del look["color"]
    axes.scatter(
        marks.x,
        marks.y,
        s=marks.size**2,
        alpha=marks.opacity,
        label=marks.label or None,
        zorder=3,
        rasterized=len(marks.x) > 2000,
        **look,
    )


def _edge(marks: Marks, picture: Picture) -> str:
    if picture.diverging and marks.shade is not None:
        return "#8a8a8a"  # the middle of a diverging scale is nearly white
    return "white" if marks.size > 3.6 else "none"


def _line(axes: Axes, marks: Marks, *_: object) -> None:
    style = (0, (5, 3)) if marks.dashed else "-"
    axes.plot(marks.x, marks.y, color=marks.colour, linewidth=1.7, linestyle=style, label=marks.label or None, zorder=4)
    if marks.y_error is not None:
        below, above = marks.y - marks.y_error[0], marks.y + marks.y_error[1]
        axes.fill_between(marks.x, below, above, color=marks.colour, alpha=0.15, linewidth=0, zorder=1)


def _steps(axes: Axes, marks: Marks, panel: Panel, *_: object) -> None:
    axes.stairs(marks.y, marks.x, color=marks.colour, linewidth=1.5, label=marks.label or None, zorder=3)
    if panel.outlines == 1:  # fills of several would mix
        axes.stairs(marks.y, marks.x, color=marks.colour, alpha=0.10, fill=True, zorder=2)


def _bars(axes: Axes, marks: Marks, *_: object) -> None:
    width = 0.4 if len(marks.x) < 2 else 0.75 * float(np.min(np.diff(np.sort(marks.x))))
    axes.bar(
        marks.x,
        marks.y,
        width,
        bottom=marks.base,
        color=marks.colour,
        alpha=marks.opacity,
        yerr=marks.y_error,
        label=marks.label or None,
        error_kw={"ecolor": INK, "elinewidth": 0.9, "capsize": 2},
        zorder=3,
    )


def _density(axes: Axes, marks: Marks, panel: Panel, *_: object) -> None:
    from matplotlib.colors import LogNorm

    extent = None if panel.x_range is None or panel.y_range is None else (*panel.x_range, *panel.y_range)
    axes.plot(marks.x, marks.y, ".", color=marks.colour, markersize=1.2, alpha=0.35, zorder=2, rasterized=True)
    cells = axes.hexbin(
        marks.x,
        marks.y,
        gridsize=CELLS,
        extent=extent,
        mincnt=SPARSE,
        cmap="YlGnBu",
        norm=LogNorm(vmin=2),
        linewidths=0.1,
        zorder=3,
        label=marks.label or None,
    )
    counts = cells.get_array()
    if counts is not None and len(counts):
        _density_bar(axes, cells)


def _density_bar(axes: Axes, cells: PolyCollection) -> None:
    from matplotlib.ticker import LogFormatter, LogLocator

    bar = axes.figure.colorbar(cells, ax=axes, pad=0.02, aspect=30)
    bar.ax.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    bar.ax.yaxis.set_major_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(9, 9)))
    bar.minorticks_off()
    bar.set_label(DENSITY_LABEL, fontsize=7.5)
    bar.ax.tick_params(labelsize=7.5, length=3)
    bar.outline.set_visible(False)


_MARKS: dict[str, Callable[..., None]] = {
    "points": _points,
    "line": _line,
    "steps": _steps,
    "bars": _bars,
    "density": _density,
}


def _rule(axes: Axes, rule: Rule) -> None:
    look: dict[str, Any] = {"color": rule.colour, "linewidth": 1, "label": rule.label or None, "zorder": 1.5}
    if rule.slope is None:
        axes.axvline(rule.at, linestyle=(0, (5, 4)), **look)
    else:
        style = "-" if rule.slope == 0 else (0, (5, 4))
        axes.axline((0, rule.at), slope=rule.slope, linestyle=style, **look)


def _map(picture: Picture) -> str:
    return "RdBu" if picture.diverging else "viridis"


def _colour_bar(figure: Figure, grid: Any, picture: Picture, ends: tuple[float, float]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    scale = ScalarMappable(Normalize(*ends), _map(picture))
    bar = figure.colorbar(scale, ax=grid, pad=0.02, aspect=36)
    if all(np.array_equal(shade, np.round(shade)) for shade in picture.shaded()):
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    bar.set_label(picture.shade_label, fontsize=9)
    bar.ax.tick_params(labelsize=8, length=3)
    bar.outline.set_visible(False)
