"""A run in a notebook or at a prompt: what it is, and the heads that matter most, with their intervals."""

from __future__ import annotations

import html
import io

from rich.text import Text

from selfrepair.report.captions import ablated, chosen_tokens, operator_with_donors, phases
from selfrepair.report.layout import plain_table
from selfrepair.report.number_formats import small
from selfrepair.report.rows import head_rows
from selfrepair.report.run_tables import columns_of, narrowed, notes
from selfrepair.results.filter_labels import resolve_filter
from selfrepair.results.runs import Run
from selfrepair.terminal import Console

WIDTH, HEADS = 100, 8
SHOWN = (
    ("model", "model"),
    ("precision", "weights"),
    ("text", "text"),
    ("operator", "operator"),
    ("donors", "donors"),
    ("engine", "engine"),
    ("tokens", "tokens"),
    ("documents", "documents"),
    ("numerical_floor", "numerical floor (logit)"),
    ("ledger_residual", "ledger residual (logit)"),
    ("relative_error", "engine's error per token (of the effects' RMS)"),
    ("status", "status"),
)


def as_text(run: Run) -> str:
    """Facts and heads, at most `WIDTH` characters wide."""
    console = Console(width=WIDTH, file=io.StringIO(), record=True, color_system=None)
    facts, (title, headings, rows, under) = _facts(run), _heads(run)
    wide = max(len(label) for label, _ in facts)
    table = plain_table()
    for column, heading in enumerate(headings):
        table.add_column(Text(heading), justify="left" if column == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(Text("selfrepair.Run"))
    for label, value in facts:
        console.print(Text(f"  {label:<{wide}}  {value}"))
    console.print()
    console.print(Text(title))
    console.print(table)
    for line in under:
        console.print(Text(line))
    return "\n".join(line.rstrip() for line in console.export_text().splitlines())


def as_html(run: Run) -> str:
    """The same as HTML; text from data is escaped."""
    left = "style='text-align:left'"
    facts = "".join(
        f"<tr><th {left}>{html.escape(label)}</th><td {left}>{html.escape(value)}</td></tr>"
        for label, value in _facts(run)
    )
    title, headings, rows, under = _heads(run)
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
    body = "".join(
        "<tr>" + "".join(f"<td style='white-space:nowrap'>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    notes_html = "".join(f"<p style='max-width:60em'>{html.escape(line)}</p>" for line in under)
    return (
        f"<div><strong>selfrepair.Run</strong><table>{facts}</table><p>{html.escape(title)}</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes_html}</div>"
    )


def _heads(run: Run) -> tuple[str, list[str], list[list[str]], list[str]]:
    """Title, headings, rows and notes of the heads with the largest direct effects."""
    label = resolve_filter(run, None)
    rows, what = head_rows(run, label, top=HEADS), ablated(run)
    columns = narrowed(columns_of(rows, what), rows, WIDTH)
    shown = f"{operator_with_donors(run)}; {chosen_tokens(label, what)}; logit"
    cells = [[column.show(row) for column in columns] for row in rows]
    title = f"{what.capitalize()}s by direct effect, largest first; {shown}"
    return title, [column.heading for column in columns], cells, notes(run, columns, rows)


def _facts(run: Run) -> list[tuple[str, str]]:
    attributes = run.interventions.attrs
    facts = [(label, small(attributes[name])) for name, label in SHOWN if name in attributes]
    own = [("positions", "each token's own")] if attributes.get("positions") == "own" else []
    both = [("in two phases", said)] if (said := phases(run)) else []
    return [*facts, *own, *both, ("filters", ", ".join(run.filters))]
