"""An audit in a notebook, in the style of its page and without scripts; its waterfall as a figure."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from selfrepair.errors import SelfRepairError
from selfrepair.pictures.picture import FAINT, INK, Marks, Panel, Picture, Rule
from selfrepair.pictures.with_matplotlib import draw
from selfrepair.questions.circuit.audit import CircuitAudit
from selfrepair.questions.page.balance import Step, steps_of, waterfall
from selfrepair.questions.page.lists import missing_list
from selfrepair.questions.page.markup import Markup, el
from selfrepair.questions.page.page_extras import PageExtras
from selfrepair.questions.page.shown import MOTIF_CLASSES, ShownAudit
from selfrepair.questions.page.verdict_card import verdict_card
from selfrepair.questions.page.write_audit import page_style
from selfrepair.questions.tables.table_parts import foot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT, DPI = 900, 200
_COLOURS = {  # as in the page's stylesheet
    **{"lost": "#5c6370", "total": INK, "rest": FAINT, "m-backup": "#2c8a5a", "m-released": "#2b75bd"},
    **{"m-turned": "#7a55cf", "m-reaimed": "#b3459b", "m-breakage": "#d97b12", "m-mixed": "#7d8390"},
    "m-unsure": "#b4b8bf",
}
_TITLES = {look: title for title, look in MOTIF_CLASSES.items()}


def notebook_html(found: CircuitAudit) -> str:
    """A frame of its own, so that neither page's style touches the other's; it runs no script and loads nothing."""
    page = el("html", _head(), el("body", _content(found)), lang="en")
    return (
        f'<iframe sandbox srcdoc="{html.escape(f"<!doctype html>{page}")}" width="100%" height="{HEIGHT}" '
        'style="border: 1px solid #8884; border-radius: 8px" title="selfrepair circuit audit"></iframe>'
    )


def _head() -> Markup:
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return el(
        "head",
        Markup(f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        el("style", Markup(page_style())),
    )


def _content(found: CircuitAudit) -> Markup:
    shown = _shown(found)
    numbers = foot(found.question, found.effects.operator, found.effects.residual)
    more = "The whole page, with the circuit's drawing and every prompt: write_audit(model, prompts, circuit, FILE)."
    return el(
        "main",
        verdict_card(shown, copies=False),
        waterfall(shown),
        missing_list(shown),
        el("p", numbers, class_="note"),
        el("p", more, class_="note"),
        id="view",
    )


def _shown(found: CircuitAudit) -> ShownAudit:
    return ShownAudit(found.question, found, PageExtras((), (), ()))


def balance_picture(found: CircuitAudit) -> Picture:
    """The waterfall as bars that start where the one before ends.

    Args:
        found: the audit.
    """
    shown = _shown(found)
    steps, total = steps_of(shown)
    starts = [*np.cumsum([0.0, *(step.value for step in steps)])[:-1], 0.0]
    named: set[str] = set()
    marks = []
    for place, (step, start) in enumerate(zip([*steps, total], starts, strict=True)):
        label = _TITLES.get(step.look, "")
        marks.append(_bar(place, step, float(start), "" if label in named else label))
        named.add(label)
    panel = Panel(
        f"What was lost, and who made up for it: {found.verdict.word}",
        "",
        f"change of the readout ({shown.unit})",
        tuple(marks),
        (Rule(0.0, colour=FAINT),),
        y_range=_range(marks),
        categories=tuple(step.title.partition(":")[0] for step in (*steps, total)),
    )
    return Picture((panel,), columns=1)


def _range(marks: Sequence[Marks]) -> tuple[float, float]:
    """Limits that hold all bars with their whiskers, with some room."""
    ends = np.array([0.0, *(one.base for one in marks), *(one.base + float(one.y[0]) for one in marks)])
    reach = [one.y_error[:, 0] for one in marks if one.y_error is not None]
    tops = [one.base + float(one.y[0]) for one in marks if one.y_error is not None]
    every = [ends, *(np.array([top - below, top + above]) for top, (below, above) in zip(tops, reach, strict=True))]
    low, high = float(np.concatenate(every).min()), float(np.concatenate(every).max())
    room = 0.05 * (high - low) or 0.1
    return low - room, high + room


def _bar(place: int, step: Step, start: float, label: str) -> Marks:
    error = np.nan_to_num(np.array([[step.value - step.low], [step.high - step.value]]))
    return Marks(
        np.array([float(place)]),
        np.array([step.value]),
        "bars",
        label=label,
        colour=_COLOURS[step.look],
        y_error=error if np.isfinite([step.low, step.high]).all() else None,
        base=start,
    )


def balance_figure(found: CircuitAudit, path: str | Path | None = None) -> Figure:
    """The waterfall, drawn; see `CircuitAudit.plot_balance`.

    Args:
        found: the audit.
        path: also save it there, 200 dots per inch.

    Raises:
        SelfRepairError: matplotlib is missing, or the file cannot be written.
    """
    figure = draw(balance_picture(found))
    if path is not None:
        try:
            figure.savefig(Path(path), dpi=DPI)
        except (OSError, ValueError) as problem:
            raise SelfRepairError(f"Cannot write the figure {path}: {problem}.", "Give another name.") from problem
    return figure
