"""Knock-out curves as a figure; needs matplotlib, but no display and no pyplot state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from selfrepair.errors import SelfRepairError
from selfrepair.pictures.picture import FAINT, PALETTE, Marks, Panel, Picture
from selfrepair.pictures.with_matplotlib import draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from selfrepair.questions.interplay.interplay import Interplay

DPI = 200
_COLOURS = {"random": FAINT}


def curve_picture(found: Interplay) -> Picture:
    """Total effects of each order as lines with their intervals, and what they would be if nothing reacted, dashed.

    Total effects, not readouts: how much the readout differs from prompt to prompt would hide how much ablations do.

    Args:
        found: the curves.
    """
    curves = {str(order): curve for order, curve in found.curves.groupby("order", sort=False)}
    colours = {order: _COLOURS.get(order, PALETTE[place % len(PALETTE)]) for place, order in enumerate(curves)}
    titles = {order: f"{order} (mean of {found.draws} orders)" if order == "random" else order for order in curves}
    marks = [_line(curve, titles[order], colours[order]) for order, curve in curves.items()]
    clean = float(found.curves["readout"].iloc[0])
    named = next((order for order in curves if order != "random"), "random")
    steps, unrepaired = curves[named]["step"].to_numpy(float), curves[named]["unrepaired"].to_numpy() - clean
    label = f"{named}, if nothing reacted"
    marks.append(Marks(steps, unrepaired, "line", label=label, colour=colours[named], dashed=True))
    panel = Panel(
        f"Knock-out curves, {found.effects.operator} ablation",
        "sets ablated together",
        f"total effect ({found.units}; clean {clean:+.2f})",
        tuple(marks),
        notes=_notes(curves[named]),
        x_ticks=tuple(range(int(found.curves["step"].max()) + 1)),
    )
    return Picture((panel,), columns=1)


def _notes(curve: pd.DataFrame) -> tuple[tuple[float, float, str], ...]:
    """What each step ablates, beside its point."""
    columns = (curve["step"], curve["total_effect"], curve["ablated"])
    return tuple((float(step), float(value), str(name)) for step, value, name in zip(*columns, strict=True) if name)


def _line(curve: pd.DataFrame, label: str, colour: str) -> Marks:
    value, low, high = (curve[f"total_effect{end}"].to_numpy(float) for end in ("", "_low", "_high"))
    error = np.nan_to_num(np.stack([value - low, high - value]))
    return Marks(curve["step"].to_numpy(float), value, "line", label=label, colour=colour, y_error=error)


def curve_figure(found: Interplay, path: str | Path | None = None) -> Figure:
    """The picture, drawn; see `Interplay.plot_curves`.

    Args:
        found: the curves.
        path: also save it there, 200 dots per inch.

    Raises:
        SelfRepairError: matplotlib is missing, or the file cannot be written.
    """
    figure = draw(curve_picture(found))
    if path is not None:
        try:
            figure.savefig(Path(path), dpi=DPI)
        except (OSError, ValueError) as problem:
            raise SelfRepairError(f"Cannot write the figure {path}: {problem}.", "Give another name.") from problem
    return figure
