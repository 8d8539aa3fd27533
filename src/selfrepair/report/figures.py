"""The paper's Figure 1 and Figure 2 of a run; needs matplotlib, but no display and no pyplot state."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from selfrepair.errors import SelfRepairError
from selfrepair.report.captions import (
    amount,
    chosen_tokens,
    fact,
    left_out,
    operator,
    rule_in_words,
    status,
)
from selfrepair.results.filter_labels import resolve_filter
from selfrepair.results.intervention_axis import require_heads
from selfrepair.results.runs import Run
from selfrepair.statistics.labels import REPAIRED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

DPI = 200
INK, FAINT, DOT, LINE = "#222222", "#8a8a8a", "#5b8db8", "#c2410c"
_wrapped = partial(wrap, break_on_hyphens=False)
LABELS = 12
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))  # right, up


def overview(run: Run, filter: str | None = None, path: str | Path | None = None) -> Figure:
    """Self-repair of every head against relative depth, with layer means (the paper's Figure 1).

    Args:
        run: the run; heads without tokens are left out.
        filter: label or spelling of a filter; None for the top filter.
        path: also save it there, 200 dots per inch.

    Raises:
        SelfRepairError: unknown filter, matplotlib is missing, or the file cannot be written.
    """
    require_heads(run.interventions, "The figure")
    label = resolve_filter(run, filter)
    part = run.heads.sel(filter=label)
    repair = part["self_repair"].values
    layers, heads = repair.shape
    figure, axes = _canvas((7.6, 4.9))
    nudge = np.linspace(-0.28, 0.28, heads) if heads > 1 else np.zeros(1)
    depth = (np.arange(layers)[:, None] + nudge[None, :]) / layers
    bars = _bars(part, "self_repair")
    axes.axhline(0, color=FAINT, linewidth=0.9, zorder=1)
    axes.errorbar(depth.ravel(), repair.ravel(), bars, fmt="none", ecolor=DOT, elinewidth=0.55, alpha=0.45, zorder=2)
    _dots(axes, depth, repair, part)
    measured = np.isfinite(repair).any(axis=1)
    means = [np.nanmean(row) if any_ else np.nan for row, any_ in zip(repair, measured, strict=True)]
    axes.plot(
        np.arange(layers) / layers,
        means,
        color=LINE,
        linewidth=1.9,
        label="mean of the layer's heads",
        zorder=4,
    )
    axes.set_xlim(-0.6 / layers, (layers - 0.4) / layers)
    _keep_outliers_from_flattening(axes, repair, bars)
    axes.set_xlabel(f"relative depth (layer / {layers})")
    axes.set_ylabel("self-repair (logit)")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=8.5, borderaxespad=0.1)
    _captions(figure, run, label, "Self-repair of every head", marked=True)
    return _finished(figure, path)


def direct_effects(run: Run, filter: str | None = "all", path: str | Path | None = None) -> Figure:
    """Mean clean direct effect against mean total effect of every head (the paper's Figure 2).

    On the dashed line `y = -x` nothing made up for the head; on `y = 0` everything did. The dashed line takes
    the replacement's own direct effect for zero; the self-repair column of the table does not.

    Args:
        run: the run; heads without tokens are left out.
        filter: label or spelling of a filter.
        path: also save it there, 200 dots per inch.

    Raises:
        SelfRepairError: unknown filter, matplotlib is missing, or the file cannot be written.
    """
    require_heads(run.interventions, "The figure")
    figure, axes = _canvas((7.6, 5.6))
    from matplotlib.ticker import MaxNLocator

    label = resolve_filter(run, filter)
    part = run.heads.sel(filter=label)
    direct, total = part["direct_effect"].values, part["total_effect"].values
    layers, heads = direct.shape
    axes.axhline(0, color=FAINT, linewidth=0.9, zorder=1, label="full repair: y = 0")
    axes.axline((0, 0), slope=-1, color=INK, linewidth=1, linestyle=(0, (5, 4)), zorder=1, label="no repair: y = −x")
    axes.errorbar(
        direct.ravel(), total.ravel(), _bars(part, "total_effect"), _bars(part, "direct_effect"),
        fmt="none", ecolor=FAINT, elinewidth=0.5, alpha=0.5, zorder=2,
    )  # fmt: skip
    dots = axes.scatter(
        direct.ravel(), total.ravel(), c=np.repeat(np.arange(layers), heads), cmap="viridis", s=24,
        edgecolors="white", linewidths=0.4, zorder=3, vmin=0, vmax=max(layers - 1, 1),
    )  # fmt: skip
    bar = figure.colorbar(dots, ax=axes, pad=0.02, aspect=32)
    bar.set_label("layer")
    bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    bar.ax.tick_params(labelsize=9, length=3)
    bar.outline.set_visible(False)
    _limits(axes, direct, total)
    axes.set_xlabel("mean clean direct effect (logit)")
    axes.set_ylabel("mean total effect of the ablation (logit)")
    axes.legend(loc="best", frameon=True, framealpha=0.85, edgecolor="none", fontsize=8.5)
    _captions(figure, run, label, "Direct effect against what ablation does")
    _label_notable(figure, axes, direct, total)
    return _finished(figure, path)


def _canvas(size: tuple[float, float]) -> tuple[Figure, Axes]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as problem:
        raise SelfRepairError("Figures need matplotlib.", "pip install 'selfrepair[plots]'") from problem

    class Shown(Figure):
        """A figure that notebooks show by themselves."""

        def _repr_png_(self) -> bytes:
            content = io.BytesIO()
            self.savefig(content, format="png", dpi=110)
            return content.getvalue()

    figure = Shown(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9, length=3)
    axes.grid(axis="y", color="#ececec", linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def _dots(axes: Axes, depth: np.ndarray, repair: np.ndarray, part: Any) -> None:
    """A dot per head; filled where the head is labelled repaired, by the rule that tables go by."""
    repaired = part["label"].values == REPAIRED
    measured = np.isfinite(repair)
    tested = int(np.isfinite(part["q_value"].values).sum())
    names = {True: f"repaired heads: {int(repaired.sum())} of {tested} tested", False: "other heads"}
    for filled, name in names.items():
        mine = measured & (repaired == filled)
        if filled or mine.any():
            axes.plot(
                depth[mine], repair[mine], "o", color=DOT, markersize=4, markerfacecolor=DOT if filled else "white",
                markeredgecolor="white" if filled else DOT, markeredgewidth=0.4 if filled else 0.9, label=name,
                zorder=3 + 0.1 * filled,
            )  # fmt: skip


def _bars(part: Any, name: str) -> np.ndarray:
    """Lengths of the 95% bars below and above, [2, head]; zero where there is no interval, or where it has no end."""
    middle = part[name].values
    ends = np.stack([middle - part[f"{name}_low"].values, part[f"{name}_high"].values - middle])
    return np.asarray(np.nan_to_num(ends.reshape(2, -1), nan=0.0, posinf=0.0, neginf=0.0))


def _keep_outliers_from_flattening(axes: Axes, values: np.ndarray, bars: np.ndarray) -> None:
    """Dots decide the height; a very long error bar is cut at the frame instead."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return
    reach = np.ptp(finite) or 1.0
    typical = float(np.median(bars)) if bars.size else 0.0
    axes.set_ylim(finite.min() - 0.08 * reach - typical, finite.max() + 0.16 * reach + typical)


def _limits(axes: Axes, direct: np.ndarray, total: np.ndarray) -> None:
    kept = np.isfinite(direct) & np.isfinite(total)
    for values, choose in ((direct[kept], axes.set_xlim), (total[kept], axes.set_ylim)):
        if values.size:
            room = 0.09 * (max(values.max(), 0) - min(values.min(), 0)) or 0.1
            choose(min(values.min(), 0) - room, max(values.max(), 0) + room)


def _captions(figure: Figure, run: Run, label: str, title: str, marked: bool = False) -> None:
    """Title and caption, wrapped; the layout keeps out of the lines they take. `marked`: repaired heads are filled."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    above = _wrapped(f"{title}: {fact(run, 'model')}", 70)
    under = [operator(run), f"{chosen_tokens(label)}; {amount(run, label)}"]
    under = [line for part in under for line in _wrapped(part, 105)]
    foot = f"text: {fact(run, 'text')} · thin bars: 95% intervals over documents · {left_out(run)}"
    below = _wrapped(" · ".join(part for part in (foot, status(run)) if part), 120)
    below += _wrapped(
        f"bars longer than the frame are cut at its edge · filled: {rule_in_words()}" if marked else "", 120
    )
    height = 72 * figure.get_figheight()
    top, second, bottom = 17 * len(above) + 8, 13 * len(under) + 4, 11 * len(below) + 8
    say = partial(figure.text, 0.013, va="top", linespacing=1.25, parse_math=False)
    say(1 - 8 / height, "\n".join(above), fontsize=12, color=INK)
    say(1 - top / height, "\n".join(under), fontsize=8.5, color="#555555")
    say((bottom - 4) / height, "\n".join(below), fontsize=7.5, color="#777777")
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0.008, bottom / height, 0.98, 1 - (top + second + bottom) / height))


def _label_notable(figure: Figure, axes: Axes, direct: np.ndarray, total: np.ndarray) -> None:
    """Name the heads farthest from the crowd, each where its name covers nothing."""
    kept = np.isfinite(direct) & np.isfinite(total)
    if not kept.any():
        return
    figure.draw_without_rendering()  # settles the layout, so that places on the page are final
    places = np.argwhere(kept)
    points = axes.transData.transform(np.column_stack([direct[kept], total[kept]]))
    spread = np.maximum(np.ptp(points, axis=0), 1)
    far = np.hypot(*((points - np.median(points, axis=0)) / spread).T)
    legend = axes.get_legend()
    taken = [] if legend is None else [legend.get_window_extent()]
    for which in np.argsort(-far, kind="stable")[:LABELS]:
        layer, head = places[which]
        at = float(direct[layer, head]), float(total[layer, head])
        taken += _place(axes, f"L{layer}H{head}", at, points, taken)


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


def _finished(figure: Figure, path: str | Path | None) -> Figure:
    if path is not None:
        try:
            figure.savefig(Path(path), dpi=DPI)
        except (OSError, ValueError) as problem:
            raise SelfRepairError(f"Cannot write the figure {path}: {problem}.", "Give another name.") from problem
    return figure
