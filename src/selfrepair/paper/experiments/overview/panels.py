"""One run's panels: heads over depth, and direct against total effects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from selfrepair.paper.pictures.picture import FAINT, PALETTE, Marks, Panel, Rule
from selfrepair.report.captions import fact
from selfrepair.results.runs import Run


def effect_panels(run: Run, label: str, name: str, shade: np.ndarray) -> list[Panel]:
    """TE of every head against DE and against DE - DE', [2 panels]."""
    part = run.heads.sel(filter=label)
    total, heads = part["total_effect"].values.ravel(), _head_names(run)
    rules = (Rule(-1, label="no repair: y = −x"), Rule(0, label="full repair: y = 0", colour=FAINT))
    panels = []
    for column, title, across in (
        ("direct_effect", "as in the paper: against DE", "mean direct effect, DE (logit)"),
        (
            "lost_direct_effect",
            "against what was lost: DE − DE′",
            "mean lost direct effect, DE − DE′ (logit)",
        ),
    ):
        x = part[column].values.ravel()
        marks = Marks(
            x,
            total,
            label="a head",
            shade=shade,
            names=heads,
            x_error=_bars(part, column),
            y_error=_bars(part, "total_effect"),
        )
        panels.append(
            Panel(
                f"{name}{title}",
                across,
                "mean change of the logit, TE (logit)",
                (marks,),
                rules,
                x_range=_span(x),
                y_range=_span(total),
                notes=_notable(heads, x, total),
            )
        )
    return panels


def idealised_panels(table: pd.DataFrame, name: str, shade: np.ndarray) -> list[Panel]:
    """Heads with perfect repair and with none, [2 panels]."""
    effect = table["direct_effect"].to_numpy()
    finite = np.abs(effect[np.isfinite(effect)])
    reach = 1.1 * (float(finite.max(initial=0.0)) or 1.0)
    return [
        Panel(
            f"{name}{title}",
            "mean direct effect, DE (logit)",
            "mean change of the logit (logit)",
            (Marks(effect, table[column].to_numpy(), names=tuple(table["name"]), shade=shade),),
            (Rule(-1, label="y = −x"), Rule(0, label="y = 0", colour=FAINT)),
            y_range=(-reach, reach),
        )
        for title, column in (("perfect self-repair", "perfect_repair"), ("no self-repair", "no_repair"))
    ]


def depth_panel(run: Run, label: str, name: str, y_label: str, called: str = "") -> Panel:
    """One number of every head over relative depth, with layer means; `called` instead of the model's name."""
    part = run.heads.sel(filter=label)
    values = part[name].values
    layers, heads = values.shape
    nudge = np.linspace(-0.28, 0.28, heads) if heads > 1 else np.zeros(1)
    depth = (np.arange(layers)[:, None] + nudge[None, :]) / layers
    measured = np.isfinite(values).any(1)
    means = np.array([np.nanmean(row) if some else np.nan for row, some in zip(values, measured, strict=True)])
    points = Marks(
        depth.ravel(),
        values.ravel(),
        label="a head, 95% interval",
        names=_head_names(run),
        y_error=_bars(part, name),
        size=4.2,
    )
    line = Marks(np.arange(layers)[measured] / layers, means[measured], "line", "mean of the layer's heads", PALETTE[1])
    return Panel(
        f"{called or fact(run, 'model')} ({label})",
        f"relative depth (layer / {layers})",
        y_label,
        (points, line),
        (Rule(0, colour=FAINT),),
        y_range=_height(values),
    )


def _head_names(run: Run) -> tuple[str, ...]:
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


def _notable(heads: Sequence[str], x: np.ndarray, y: np.ndarray, most: int = 7) -> tuple[tuple[float, float, str], ...]:
    """The heads farthest from the crowd, leaving out those whose names would overlap."""
    kept = np.isfinite(x) & np.isfinite(y)
    if not kept.any():
        return ()
    spread = [max(float(np.ptp(values[kept])), 1e-9) for values in (x, y)]
    points = np.column_stack([x / spread[0], y / spread[1]])
    far = np.where(kept, np.hypot(*(points - np.median(points[kept], axis=0)).T), -1)
    chosen: list[int] = []
    for place in np.argsort(-far):
        apart = all(
            abs(points[place, 0] - points[one, 0]) > 0.16 or abs(points[place, 1] - points[one, 1]) > 0.06
            for one in chosen
        )
        if apart and kept[place]:
            chosen.append(int(place))
        if len(chosen) == most:
            break
    return tuple((float(x[one]), float(y[one]), heads[one]) for one in chosen)
