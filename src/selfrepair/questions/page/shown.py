"""What every part of the page is given, and how it writes numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from selfrepair.ablation.sites import Site
from selfrepair.questions.circuit.audit import CircuitAudit
from selfrepair.questions.measuring.metrics import metric_named
from selfrepair.questions.page.markup import Markup, el
from selfrepair.questions.page.page_extras import PageExtras
from selfrepair.questions.question import Question
from selfrepair.questions.tables.table_parts import with_ends
from selfrepair.report.number_formats import SMALLEST, effect, share
from selfrepair.statistics.estimates import Estimate

MOTIF_CLASSES = {
    "backup": "m-backup",
    "suppressor released": "m-released",
    "suppressor turned": "m-turned",
    "suppressor re-aimed": "m-reaimed",
    "breakage": "m-breakage",
    "mixed": "m-mixed",
    "unsure": "m-unsure",
}


@dataclass(frozen=True, eq=False)
class ShownAudit:
    """An audit and what belongs to it.

    Attributes:
        question: model, prompts and settings.
        found: the audit.
        extras: what was measured for the page.
    """

    question: Question
    found: CircuitAudit
    extras: PageExtras

    @property
    def unit(self) -> str:
        """Of all effects."""
        return metric_named(self.question.settings.metric).units

    @property
    def members(self) -> tuple[Site, ...]:
        """Of the circuit."""
        return self.found.runs.members

    @property
    def missing(self) -> list[str]:
        """Names of what the circuit misses."""
        return [str(name) for name in self.found.missing["component"]]

    def label(self, component: str) -> str:
        """What a component does; nothing for those without a line."""
        table = self.found.covering.table
        labels = table.loc[table["component"] == component, "label"]
        return str(labels.iloc[0]) if len(labels) else ""


def motif_class(label: str) -> str:
    """The class that gives a label its colour."""
    return MOTIF_CLASSES.get(label, "m-unsure")


def effect_text(value: float, low: float, high: float) -> str:
    """A mean with its interval, where there is one."""
    return with_ends(*effect(*_told_apart(value, low, high)))


def share_text(value: float, low: float, high: float) -> str:
    """A share with its interval; in round brackets where its denominator may be zero."""
    text, interval = share(*_told_apart(value, low, high))
    return f"({text})" if math.isinf(low) or math.isinf(high) else with_ends(text, interval)


def _told_apart(value: float, low: float, high: float) -> tuple[float, float, float]:
    """A number and its ends without what is rounding: ends that are one, and sizes of nothing."""
    value, low, high = (0.0 if abs(one) < SMALLEST else float(one) for one in (value, low, high))
    return (value, value, value) if 0 <= high - low < SMALLEST else (value, low, high)


def ends(estimate: Estimate) -> tuple[float, float, float]:
    """Value and both ends."""
    return float(estimate.value), float(estimate.low), float(estimate.high)


def figure(title: str, content: Markup, caption: str | Markup, anchor: str | None = None) -> Markup:
    """A titled part of the page with what its numbers are."""
    return el("figure", el("h2", title), content, el("figcaption", caption), id=anchor)


def html_table(headings: list[str], rows: list[list[str]], numeric: set[int], caption: str | None = None) -> Markup:
    """A table in a box that scrolls.

    Args:
        headings: of the columns.
        rows: cells; the first of each row heads it.
        numeric: columns that are set to the right.
        caption: above it.
    """

    assert all(len(row) == len(headings) for row in rows)

    def cell(name: str, place: int, content: str, **more: str) -> Markup:
        return el(name, content, class_="numeric" if place in numeric else None, **more)

    head = el("tr", *(cell("th", place, text, scope="col") for place, text in enumerate(headings)))
    body = [
        el("tr", *(cell("th" if not place else "td", place, text) for place, text in enumerate(row))) for row in rows
    ]
    table = el("table", el("caption", caption) if caption else None, el("thead", head), el("tbody", *body))
    return el("div", table, class_="scroll", tabindex="0", role="region", aria_label=caption or "Table")
