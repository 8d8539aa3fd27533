"""Tables for the terminal: the heads, and the whole model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from selfrepair.effects.lines import LINES
from selfrepair.report.captions import (
    MARKS,
    ablated,
    amount,
    centring_note,
    chosen_tokens,
    discoveries,
    donors_needed_note,
    errors,
    fact,
    floor,
    lost,
    operator_with_donors,
    positions_left_out,
    repaired_rule,
    rule_in_words,
    status_warning,
    stopping_note,
)
from selfrepair.report.layout import GAP, NumberRow, fitted, plain_table
from selfrepair.report.number_formats import DASH, has_ends, leaves_out_zero, of_row, signed
from selfrepair.report.rows import HEADINGS, Row, column_of, head_rows, head_table
from selfrepair.results import checks
from selfrepair.results.filter_labels import resolve_filter
from selfrepair.results.runs import Run
from selfrepair.terminal import Console, plain

__all__ = ["head_table", "print_heads", "print_summary"]

UNSURE = "in round brackets where lost DE may be zero, so that the share may be anything"


@dataclass(frozen=True)
class HeadColumn:
    """One column: its heading (in `HEADINGS`), what it shows of a row, its drop priority on a narrow terminal."""

    heading: str
    show: Callable[[Row], str]
    spare: int = 0


def print_heads(
    console: Console,
    run: Run,
    filter: str | None = None,
    sort: str = "direct_effect",
    descending: bool = True,
    top: int | None = 20,
    layers: Sequence[int | str] | str | None = None,
) -> None:
    """Print the heads; arguments as `head_table`.

    Raises:
        SelfRepairError: unknown filter, column or layer.
    """
    label = resolve_filter(run, filter)
    rows = head_rows(run, label, sort, descending, top, layers)
    every = columns_of(rows, ablated(run))
    columns = narrowed(every, rows, console.width)
    table = plain_table()
    for index, column in enumerate(columns):
        table.add_column(Text(column.heading), justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(_styled(column, row) for column in columns))
    order = "largest" if descending else "smallest"
    console.print(Text(f"{ablated(run).capitalize()}s by {_heading(sort, rows)}, {order} first", style="bold"))
    console.print(Text(operator_with_donors(run)))
    console.print(Text(f"filter: {chosen_tokens(label, ablated(run))}"))
    console.print(Text(amount(run, label)))
    about = {"weights": "precision", "text": "text", "engine": "engine"}
    facts = " · ".join(f"{name}: {fact(run, attribute)}" for name, attribute in about.items())
    console.print(Text(f"{fact(run, 'model')} · {facts}", "dim"))
    console.print()
    console.print(table)
    console.print()
    for line in notes(run, columns, rows):
        console.print(Text(line, "dim"))
    dropped = [column.heading for column in every if column not in columns]
    if dropped:
        console.print(Text(f"No room here for: {', '.join(dropped)}; a wider terminal or --json shows them.", "dim"))


def _heading(sort: str, rows: list[Row]) -> str:
    """The sorted column as the table heads it."""
    column = column_of(sort, rows)
    headings = {name: heading for heading, name in HEADINGS.items()} | {
        "direct_effect": "direct effect",
        "name": "name",
    }
    return headings.get(column, column.replace("_", " "))


def print_summary(console: Console, run: Run) -> None:
    """Print the whole model's totals under each filter, split into heads, MLPs and norms."""
    absent = [name for name in NOT_EVERYWHERE if not _any(run.interventions[f"pooled_{name}"].values)]
    names = [name for name in SHARES.values() if name not in absent]
    headings = [heading for heading, name in SHARES.items() if name in names]
    width = min(console.width, 100)
    lines = [_pooled(run, label, names) for label in run.filters]
    table = fitted("filter", ["lost DE", *headings], lines, width - 6)
    caption = Text(
        f"repaired = ΣSR / Σ(lost direct effect), all {ablated(run)}s together, {UNSURE}; the parts add up to it. "
        f"Square brackets: {errors(run)}. A head is repaired where {rule_in_words()}. "
        f"{operator_with_donors(run)}; {positions_left_out(run)}.",
        "dim",
    )
    body = Table.grid()
    repaired = [Text(f"{label}: {discoveries(run, label)}") for label in run.filters]
    body.add_row(table)
    more = [Text(note) for note in (donors_needed_note(run), stopping_note(run)) if note]
    for line in (Text(""), *repaired, *more, Text(""), caption):
        body.add_row(line)
    title = f"{fact(run, 'model')}: how much of {lost(run)} is repaired"
    if cell_len(title) > width - 6:  # more than the frame's upper edge can take without cutting it
        console.print(Text(title))
        title = ""
    console.print(Panel(body, title=Text(title) if title else None, title_align="left", width=width, padding=(1, 2)))


SHARES = {
    "repaired": "repaired_fraction",
    "by heads": "fraction_heads",
    "by MLPs": "fraction_mlps",
    "by mixers": "fraction_mixers",
    "by post-norms": "fraction_post_norms",
    "by norm": "fraction_norm",
}
NOT_EVERYWHERE = tuple(line.share for line in LINES if not line.everywhere)


def _pooled(run: Run, label: str, names: Sequence[str]) -> NumberRow:
    """A filter's line: what all heads together lose, and the shares of it that are repaired."""
    part = run.interventions.sel(filter=label)
    numbers = ["lost_direct_effect", *names]
    return share_line(
        label,
        {name + end: part[f"pooled_{name}{end}"].values.item() for name in numbers for end in ("", "_low", "_high")},
        names,
    )


def share_line(name: str, row: Row, shares: Sequence[str]) -> NumberRow:
    """A line of a card: the lost direct effect and shares of it, in round brackets where there may be nothing lost."""
    sure = determined(row)
    cells = [of_row(row, share) for share in shares]
    bracketed = [(value if sure or value == DASH else f"({value})", interval) for value, interval in cells]
    return NumberRow(name, [of_row(row, "lost_direct_effect"), *bracketed])


def determined(row: Row) -> bool:
    """Whether the repaired fraction's interval has ends: lost direct effect is distinguishable from zero."""
    return has_ends(row["repaired_fraction_low"], row["repaired_fraction_high"])


def narrowed(columns: list[HeadColumn], rows: list[Row], width: int) -> list[HeadColumn]:
    """The columns that fit in `width` characters; those of the highest drop priority go first."""
    kept = list(columns)
    while sum(_width(column, rows) + GAP for column in kept) - GAP > width and any(column.spare for column in kept):
        kept.remove(max(kept, key=lambda column: column.spare))
    return kept


def columns_of(rows: list[Row], what: str = "head") -> list[HeadColumn]:
    """All columns of the table but those with nothing to show; `what`: what each row is."""

    def number(heading: str, spare: int = 0) -> HeadColumn:
        return HeadColumn(heading, lambda row: signed(row[HEADINGS[heading]]), spare)

    columns = [
        HeadColumn(what, _name),
        number("DE", 1),
        number("lost DE", 6),
        number("total", 5),
        HeadColumn("self-repair", lambda row: _joined(*of_row(row, "self_repair"))),
        HeadColumn("repaired", _repaired, 1),
        number("heads", 4),
        number("MLPs", 4),
    ]
    columns += [
        number(heading, 7) for heading in ("mixers", "post-norms") if _any([row[HEADINGS[heading]] for row in rows])
    ]
    columns.append(number("norm", 4))
    if any(_largest(row) != DASH for row in rows):
        columns.append(HeadColumn("largest repairer", _largest, 8))
    columns.append(HeadColumn("tokens", lambda row: f"{row['count']:,}", 10))
    columns.append(HeadColumn("docs", lambda row: f"{row['documents']:,}", 9))
    columns.append(HeadColumn("label", lambda row: str(row["label"] or DASH), 11))
    return columns


def _name(row: Row) -> str:
    mark, name = MARKS.get(str(row["label"])), plain(str(row["name"]))
    return f"{name} {mark}" if mark else name


def _joined(value: str, interval: str) -> str:
    return value if value == DASH else f"{value} {interval}"


def _repaired(row: Row) -> str:
    value, interval = of_row(row, "repaired_fraction")
    return _joined(value if determined(row) or value == DASH else f"({value})", interval)


def _largest(row: Row) -> str:
    """The component that repairs most with its interval, which allows for the choosing; a dash where it may be none."""
    low = row.get("largest_repair_low")
    if not isinstance(low, float) or not low > 0:
        return DASH
    return f"{row['largest_repairer']} {signed(low)} to {signed(row['largest_repair_high'])}"


def notes(run: Run, columns: list[HeadColumn], rows: list[Row]) -> list[str]:
    """Explanations of the table's numbers, line by line."""
    marked = {str(row["label"]) for row in rows}
    lines = [
        "Mean change of the target's centred logit. DE: clean direct effect; "
        "lost DE: DE minus the replacement's; total: ablated minus clean; "
        "self-repair = total + lost DE = heads + MLPs + norms; "
        f"repaired = ΣSR / Σ lost DE, {UNSURE}.",
        f"Square brackets: {errors(run)}; {positions_left_out(run)}; {floor(run)}.",
        f"{repaired_rule(*marked)}.",
    ]
    if any(column.heading == "largest repairer" for column in columns):
        lines.append(
            "largest repairer: its 95% interval, which allows for its being the largest of all that come later; "
            f"{DASH} where that reaches down to zero."
        )
    if any(column.heading == "label" for column in columns):
        lines.append(
            "label: what the ablation does; repaired and amplified by the rule above, others by single intervals."
        )
    lines += [*([f"{note.capitalize()}."] if (note := centring_note(run)) else []), *checks.warned(run.outcome)]
    return [*lines, status_warning(run)] if status_warning(run) else lines


def _styled(column: HeadColumn, row: Row) -> Text:
    text = Text(column.show(row))
    if column.heading in ("head", "intervention"):
        text.stylize("bold")
    if column.heading == "self-repair" and leaves_out_zero(row["self_repair_low"], row["self_repair_high"]):
        text.stylize("green" if _same_side(row["self_repair"], row["lost_direct_effect"]) else "red")
    return text


def _same_side(repair: object, lost: object) -> bool:
    """Whether self-repair counters the loss."""
    return isinstance(repair, float) and isinstance(lost, float) and repair * lost > 0


def _width(column: HeadColumn, rows: list[Row]) -> int:
    return max([cell_len(column.heading), *(cell_len(column.show(row)) for row in rows)])


def _any(values: object) -> bool:
    return bool((np.nan_to_num(np.asarray(values, float)) != 0).any())
