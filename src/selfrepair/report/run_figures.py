"""The paper's Figure 1 and Figure 2 of a run; needs matplotlib, but no display and no pyplot state."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from selfrepair.errors import SelfRepairError
from selfrepair.pictures.names_beside_points import name_notable
from selfrepair.pictures.picture import INK, Picture
from selfrepair.pictures.with_matplotlib import draw
from selfrepair.report.captions import (
    amount,
    chosen_tokens,
    fact,
    operator_with_donors,
    positions_left_out,
    rule_in_words,
    status_warning,
)
from selfrepair.report.panels import depth_panel, effect_panel
from selfrepair.results.filter_labels import resolve_filter
from selfrepair.results.intervention_axis import require_heads
from selfrepair.results.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 200
_wrapped = partial(wrap, break_on_hyphens=False)


def overview_figure(run: Run, filter: str | None = None, path: str | Path | None = None) -> Figure:
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
    panel = replace(depth_panel(run, label, "self_repair", "self-repair (logit)", by_label=True), title="")
    figure = draw(Picture((panel,), columns=1), size=(7.6, 5.2))
    _captions(figure, run, label, "Self-repair of every head", marked=True)
    return _finished(figure, path)


def direct_effects_figure(run: Run, filter: str | None = "all", path: str | Path | None = None) -> Figure:
    """Mean clean direct effect against mean total effect of every head (the paper's Figure 2).

    On the dashed line `y = -x` nothing compensated; on `y = 0` the loss was compensated in full. The dashed line takes
    the replacement's own direct effect for zero; the self-repair column of the table does not.

    Args:
        run: the run; heads without tokens are left out.
        filter: label or spelling of a filter.
        path: also save it there, 200 dots per inch.

    Raises:
        SelfRepairError: unknown filter, matplotlib is missing, or the file cannot be written.
    """
    require_heads(run.interventions, "The figure")
    label = resolve_filter(run, filter)
    layers, heads = run.heads.sizes["layer"], run.heads.sizes["head"]
    across = "mean clean direct effect (logit)"
    panel = effect_panel(run, label, "direct_effect", ("", across), np.repeat(np.arange(layers), heads))
    scale = (0.0, float(max(layers - 1, 1)))
    figure = draw(Picture((panel,), columns=1, shade_label="layer", shade_range=scale), size=(7.6, 5.8))
    _captions(figure, run, label, "Direct effect against what ablation does")
    (marks,) = panel.marks
    name_notable(figure.axes[0], marks.x, marks.y, marks.names)
    return _finished(figure, path)


def _captions(figure: Figure, run: Run, label: str, title: str, marked: bool = False) -> None:
    """Title and caption, wrapped; the layout keeps out of the lines they take. `marked`: repaired heads are filled."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    above = _wrapped(f"{title}: {fact(run, 'model')}", 70)
    under = [operator_with_donors(run), f"{chosen_tokens(label)}; {amount(run, label)}"]
    under = [line for part in under for line in _wrapped(part, 105)]
    foot = f"text: {fact(run, 'text')} · thin bars: 95% intervals over documents · {positions_left_out(run)}"
    below = _wrapped(" · ".join(part for part in (foot, status_warning(run)) if part), 120)
    below += _wrapped(f"filled: {rule_in_words()}" if marked else "", 120)
    height = 72 * figure.get_figheight()
    top, second, bottom = 17 * len(above) + 8, 13 * len(under) + 4, 11 * len(below) + 8
    say = partial(figure.text, 0.013, va="top", linespacing=1.25, parse_math=False)
    say(1 - 8 / height, "\n".join(above), fontsize=12, color=INK)
    say(1 - top / height, "\n".join(under), fontsize=8.5, color="#555555")
    say((bottom - 4) / height, "\n".join(below), fontsize=7.5, color="#777777")
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0.008, bottom / height, 0.98, 1 - (top + second + bottom) / height))


def _finished(figure: Figure, path: str | Path | None) -> Figure:
    if path is not None:
        try:
            figure.savefig(Path(path), dpi=DPI)
        except (OSError, ValueError) as problem:
            raise SelfRepairError(f"Cannot write the figure {path}: {problem}.", "Give another name.") from problem
    return figure
