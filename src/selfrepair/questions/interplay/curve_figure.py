"""Knock-out curves as a figure; needs matplotlib, but no display and no pyplot state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from selfrepair.errors import SelfRepairError
from selfrepair.pictures.picture import FAINT, PALETTE, Marks, Panel, Picture
from selfrepair.pictures.with_matplotlib import draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure


DPI = 200


def curve_picture(table: pd.DataFrame, operator: str, draws: int, units: str) -> Picture:
    """Total effects of each order as lines, and what the first would be if nothing reacted, dashed.

    Total effects, not readouts: how much the readout differs from prompt to prompt would hide how much ablations do.
    Orders that ablate the same sets at every step share a line. The first line and that of random orders have their
    intervals; bands of all would hide each other.

    Args:
        table: all curves, as in `Interplay`.
        operator: what sets were ablated by.
        draws: random orders, whose mean is one curve.
        units: of the readout.
    """
    curves = _together({str(order): curve for order, curve in table.groupby("order", sort=False)})
    first = next((label for label in curves if label != "random"), "random")
    clean, marks = float(table["readout"].iloc[0]), []
    for place, (label, curve) in enumerate(curves.items()):
        title = f"random, mean of {draws}" if label == "random" else label
        colour = FAINT if label == "random" else PALETTE[place % len(PALETTE)]
        marks.append(_line(curve, title, colour, label in (first, "random")))
        if label == first:
            values = curve["unrepaired"].to_numpy(float) - clean
            steps = curve["step"].to_numpy(float)
            dashed = Marks(steps, values, "line", label="first, if nothing reacted", colour=colour, dashed=True)
    panel = Panel(
        f"Knock-out curves, {operator} ablation",
        "sets ablated together",
        f"total effect ({units}; clean {clean:+.2f})",
        (*marks, dashed),
        notes=_notes(curves[first]),
        x_ticks=tuple(range(int(table["step"].max()) + 1)),
    )
    return Picture((panel,), columns=1)


def _together(curves: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Curves by the names of all orders that ablate the same sets at every step."""
    names: dict[tuple[str, ...], list[str]] = {}
    for order, curve in curves.items():
        steps = (order,) if order == "random" else tuple(map(str, curve["ablated"]))
        names.setdefault(steps, []).append(order)
    return {", ".join(orders): curves[orders[0]] for orders in names.values()}


def _notes(curve: pd.DataFrame) -> tuple[tuple[float, float, str], ...]:
    """What each step ablates, beside its point."""
    columns = (curve["step"], curve["total_effect"], curve["ablated"])
    return tuple((float(step), float(value), str(name)) for step, value, name in zip(*columns, strict=True) if name)


def _line(curve: pd.DataFrame, label: str, colour: str, band: bool) -> Marks:
    value, low, high = (curve[f"total_effect{end}"].to_numpy(float) for end in ("", "_low", "_high"))
    error = np.nan_to_num(np.stack([value - low, high - value])) if band else None
    return Marks(curve["step"].to_numpy(float), value, "line", label=label, colour=colour, y_error=error)


def curve_figure(picture: Picture, path: str | Path | None = None) -> Figure:
    """The picture, drawn; see `Interplay.plot_curves`.

    Args:
        picture: the curves, see `curve_picture`.
        path: also save it there, 200 dots per inch.

    Raises:
        SelfRepairError: matplotlib is missing, or the file cannot be written.
    """
    figure = draw(picture)
    if path is not None:
        try:
            figure.savefig(Path(path), dpi=DPI)
        except (OSError, ValueError) as problem:
            raise SelfRepairError(f"Cannot write the figure {path}: {problem}.", "Give another name.") from problem
    return figure
