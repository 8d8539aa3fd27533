"""One run's panels: heads over depth, and direct against total effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from selfrepair.pictures.picture import FAINT, PALETTE, Marks, Panel, Rule
from selfrepair.report.captions import fact
from selfrepair.results.runs import Run
from selfrepair.statistics.labels import REPAIRED


def effect_panel(run: Run, label: str, column: str, titles: tuple[str, str], shade: np.ndarray) -> Panel:
    """Total effect of every head against another number, with the lines of no repair and of full repair.

    Args:
        run: the run.
        label: label of a filter.
        column: the number on the x axis, such as `direct_effect`.
        titles: title of the panel, and of the x axis with its unit.
        shade: [head], values for the colour scale.
    """
    part = run.heads.sel(filter=label)
    x, total, heads = part[column].values.ravel(), part["total_effect"].values.ravel(), head_names(run)
    ends = _bars(part, column), _bars(part, "total_effect")
    return Panel(
        titles[0],
        titles[1],
        "mean change of the logit, TE (logit)",
        (Marks(x, total, label="a head", shade=shade, names=heads, x_error=ends[0], y_error=ends[1]),),
        (Rule(-1, label="no repair: y = −x"), Rule(0, label="full repair: y = 0", colour=FAINT)),
        x_range=_span(x),
        y_range=_span(total),
    )


def depth_panel(run: Run, label: str, name: str, y_label: str, called: str = "", by_label: bool = False) -> Panel:
    """One number of every head over relative depth, with layer means.

    Args:
        run: the run.
        label: label of a filter.
        name: name of the number.
        y_label: label of the y axis, with its unit.
        called: name of the run; its model's name if empty.
        by_label: whether heads are filled where they are labelled repaired, and outlines elsewhere.
    """
    part = run.heads.sel(filter=label)
    values = part[name].values
    layers, heads = values.shape
    nudge = np.linspace(-0.28, 0.28, heads) if heads > 1 else np.zeros(1)
    depth = (np.arange(layers)[:, None] + nudge[None, :]) / layers
    measured = np.isfinite(values).any(1)
    means = np.array([np.nanmean(row) if has_any else np.nan for row, has_any in zip(values, measured, strict=True)])
    points = Marks(
        depth.ravel(),
        values.ravel(),
        label="a head, 95% interval",
        names=head_names(run),
        y_error=_bars(part, name),
        size=4.2,
    )
    series = _by_label(points, part) if by_label else (points,)
    line = Marks(np.arange(layers)[measured] / layers, means[measured], "line", "mean of the layer's heads", PALETTE[1])
    return Panel(
        f"{called or fact(run, 'model')} ({label})",
        f"relative depth (layer / {layers})",
        y_label,
        (*series, line),
        (Rule(0, colour=FAINT),),
        y_range=_height(values),
    )


def _by_label(points: Marks, part: xr.Dataset) -> tuple[Marks, ...]:
    """The same heads in two series, by the rule of the tables."""
    repaired, measured = (part["label"].values == REPAIRED).ravel(), np.isfinite(points.y)
    tested = int(np.isfinite(part["q_value"].values).sum())
    series = []
    for chosen, hollow, label in (
        (measured & ~repaired, True, "other heads"),
        (measured & repaired, False, f"repaired heads: {int(repaired.sum())} of {tested} tested"),
    ):
        if not hollow or chosen.any():
            assert points.y_error is not None
            names = tuple(name for name, is_chosen in zip(points.names, chosen, strict=True) if is_chosen)
            errors = points.y_error[:, chosen]
            marks = replace(points, x=points.x[chosen], y=points.y[chosen], names=names, y_error=errors, label=label)
            series.append(replace(marks, hollow=hollow))
    return tuple(series)


def head_names(run: Run) -> tuple[str, ...]:
    """Names of all heads, layer by layer."""
    layers, heads = run.heads.sizes["layer"], run.heads.sizes["head"]
    return tuple(f"L{layer}H{head}" for layer in range(layers) for head in range(heads))


def _bars(part: object, name: str) -> np.ndarray:
    """Lengths of the intervals below and above, [2, head]."""
    middle, low, high = (part[name + end].values.ravel() for end in ("", "_low", "_high"))  # type: ignore[index]
    return np.asarray(np.nan_to_num(np.stack([middle - low, high - middle])))


def _height(values: np.ndarray) -> tuple[float, float] | None:
    """Limits by the dots; very long error bars are cut at the frame."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    reach = float(np.ptp(finite)) or 1.0
    return float(min(finite.min(), 0) - 0.15 * reach), float(max(finite.max(), 0) + 0.2 * reach)


def _span(values: np.ndarray) -> tuple[float, float]:
    """Limits by the dots, zero among them: a very long error bar is cut at the frame."""
    finite = np.append(values[np.isfinite(values)], 0.0)
    room = 0.1 * float(np.ptp(finite)) or 0.1
    return float(finite.min() - room), float(finite.max() + 1.3 * room)


def notable(heads: Sequence[str], x: np.ndarray, y: np.ndarray, most: int = 7) -> tuple[tuple[float, float, str], ...]:
    """Names beside the heads farthest from the crowd, leaving out those whose names would overlap."""
    kept = np.isfinite(x) & np.isfinite(y)
    if not kept.any():
        return ()
    spread = [max(float(np.ptp(values[kept])), 1e-9) for values in (x, y)]
    points = np.column_stack([x / spread[0], y / spread[1]])
    far = np.where(kept, np.hypot(*(points - np.median(points[kept], axis=0)).T), -1)
    chosen: list[int] = []
    for index in np.argsort(-far):
        apart = all(
            abs(points[index, 0] - points[other, 0]) > 0.16 or abs(points[index, 1] - points[other, 1]) > 0.06
            for other in chosen
        )
        if apart and kept[index]:
            chosen.append(int(index))
        if len(chosen) == most:
            break
    return tuple((float(x[index]), float(y[index]), heads[index]) for index in chosen)
