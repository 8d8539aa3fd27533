"""Tables for the terminal: the heads, and the whole model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.cells import cell_len
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from selfrepair.report.captions import (
    amount,
    centring,
    chosen_tokens,
    discoveries,
    donors_needed,
    errors,
    fact,
    floor,
    left_out,
    operator,
    resolve_filter,
    status,
    stopped,
)
from selfrepair.report.rows import Row, head_table, plain
from selfrepair.results import checks
from selfrepair.results.runs import Run
from selfrepair.terminal import Console

__all__ = ["head_table", "print_heads", "print_summary", "resolve_filter"]

DASH = "–"
UNDETERMINED = "lost DE may be zero, so that the share may be anything"


@dataclass(frozen=True)
class Column:
    """One column: its heading, what it shows of a row, and how gladly it is given up on a narrow terminal."""

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
    layers: Sequence[int] | None = None,
) -> None:
    """Print the heads; arguments as `head_table`.

    Raises:
        SelfRepairError: unknown filter, column or layer.
    """
    label = resolve_filter(run, filter)
    rows = head_table(run, label, sort, descending, top, layers)
    columns = fitting(_columns(rows), rows, console.width)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(Text(column.heading), justify="left" if place == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(_styled(column, row) for column in columns))
    order = "largest" if descending else "smallest"
    console.print(Text(f"Heads by {sort.replace('_', ' ')}, {order} first", style="bold"))
    console.print(Text(operator(run)))
    console.print(Text(f"filter: {chosen_tokens(label)}"))
    console.print(Text(amount(run, label)))
    console.print(Text(f"{fact(run, 'model')} · text: {fact(run, 'text')} · engine: {fact(run, 'engine')}", "dim"))
    console.print()
    console.print(table)
    console.print()
    for line in _notes(run, columns):
        console.print(Text(line, "dim"))


def print_summary(console: Console, run: Run) -> None:
    """Print the whole model's totals under each filter, split into heads, MLPs and norms."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    post = _any(run.heads["pooled_fraction_post_norms"].values)
    headings = [
        "filter",
        "lost DE",
        "repaired",
        "by heads",
        "by MLPs",
        *(["post-norms"] if post else []),
        "by norm",
    ]
    for heading in headings:
        table.add_column(Text(heading), justify="left" if heading == "filter" else "right", no_wrap=True)
    width = min(console.width, 100)
    shares = ["repaired_fraction", "fraction_heads", "fraction_mlps"]
    shares += [*(["fraction_post_norms"] if post else []), "fraction_norm"]
    filters = [_pooled(run, label, shares) for label in run.filters]
    needed = [max(map(cell_len, column)) + 2 for column in zip(headings, *filters, strict=True)]
    for cells in filters:  # where there is no room, errors go below their numbers
        table.add_row(*(cell.replace(" ± ", "\n± ") if sum(needed) > width - 6 else cell for cell in cells))
    caption = Text(
        f"repaired = ΣSR / Σ(lost direct effect), all heads together, in brackets where {UNDETERMINED}; "
        "the parts add up to it. "
        f"{errors(run)}. {operator(run)}; {left_out(run)}.",
        "dim",
    )
    body = Table.grid()
    repaired = [Text(f"{label}: {discoveries(run, label)}") for label in run.filters]
    body.add_row(table)
    more = [Text(said) for said in (donors_needed(run), stopped(run)) if said]
    for line in (Text(""), *repaired, *more, Text(""), caption):
        body.add_row(line)
    title = f"{fact(run, 'model')}: how much of what heads lose is repaired"
    console.print(Panel(body, title=Text(title), title_align="left", width=width, padding=(1, 2)))


def _pooled(run: Run, label: str, shares: Sequence[str]) -> list[str]:
    """A filter's line: what all heads together lose, and the shares of it that are repaired."""
    part = run.heads.sel(filter=label)

    def number(name: str) -> int | float | None:
        return plain(part[f"pooled_{name}"].values[()])

    sure = determined({name: number(name) for name in ("repaired_fraction_low", "repaired_fraction_high")})
    cells = [percent(number(share), number(f"{share}_standard_error")) for share in shares]
    lost = signed(number("lost_direct_effect"))
    return [label, lost, *(cell if sure or cell == DASH else f"({cell})" for cell in cells)]


def determined(row: Row) -> bool:
    """Whether the repaired fraction's interval has ends: lost direct effect is not zero, as far as that can be told."""
    return all(row[f"repaired_fraction_{end}"] is not None for end in ("low", "high"))


def fitting(columns: list[Column], rows: list[Row], width: int) -> list[Column]:
    """The columns that fit in `width` characters, the most spare given up first."""
    kept = list(columns)
    while sum(_width(column, rows) + 2 for column in kept) - 2 > width and any(column.spare for column in kept):
        kept.remove(max(kept, key=lambda column: column.spare))
    return kept


def signed(value: object) -> str:
    """`+0.123`; a dash where there is no number."""
    return f"{value:+.3f}" if isinstance(value, float | int) else DASH


def percent(value: object, error: object = None) -> str:
    """`45%` or `45.2 ± 3.1%`; a dash where there is no number."""
    if not isinstance(value, float | int):
        return DASH
    return f"{100 * value:.0f}%" if not isinstance(error, float | int) else f"{100 * value:.1f} ± {100 * error:.1f}%"


def _columns(rows: list[Row]) -> list[Column]:
    def number(name: str) -> Callable[[Row], str]:
        return lambda row: signed(row[name])

    columns = [
        Column("head", lambda row: str(row["name"])),
        Column("DE", number("direct_effect")),
        Column("lost DE", number("lost_direct_effect"), 2),
        Column("total", number("total_effect")),
        Column("self-repair ± SE", _repair),
        Column("repaired", _repaired, 1),
        Column("heads", number("repair_heads")),
        Column("MLPs", number("repair_mlps")),
    ]
    if _any([row["repair_post_norms"] for row in rows]):
        columns.append(Column("post-norms", number("repair_post_norms"), 3))
    columns.append(Column("norm", number("repair_norm")))
    if any(_largest(row) != DASH for row in rows):
        columns.append(Column("largest repairer", _largest, 4))
    columns.append(Column("tokens", lambda row: f"{row['count']:,}", 6))
    columns.append(Column("docs", lambda row: f"{row['documents']:,}", 5))
    columns.append(Column("label", lambda row: str(row["label"] or DASH), 7))
    return columns


def _repair(row: Row) -> str:
    error = row["self_repair_standard_error"]
    return f"{signed(row['self_repair'])} ± {error:.3f}" if error is not None else signed(row["self_repair"])


def _repaired(row: Row) -> str:
    share = row["repaired_fraction"]
    return percent(share) if determined(row) or share is None else f"({percent(share)})"


def _largest(row: Row) -> str:
    """The component that repairs most with its interval, which allows for the choosing; a dash where it may be none."""
    low = row.get("largest_repair_low")
    if not isinstance(low, float) or low <= 0:
        return DASH
    return f"{row['largest_repairer']} {signed(low)} to {signed(row['largest_repair_high'])}"


def _notes(run: Run, columns: list[Column]) -> list[str]:
    lines = [
        "Mean change of the target's centred logit. DE: clean direct effect; "
        "lost DE: DE minus the replacement's; total: ablated minus clean; "
        "self-repair = total + lost DE = heads + MLPs + norms; "
        f"repaired = ΣSR / Σ lost DE, in brackets where {UNDETERMINED}.",
        f"{errors(run)}; {left_out(run)}; {floor(run)}.",
    ]
    if any(column.heading == "largest repairer" for column in columns):
        lines.append(
            "largest repairer: its 95% interval, which allows for its being the largest of all that come later; "
            f"{DASH} where that reaches down to zero."
        )
    if any(column.heading == "label" for column in columns):
        lines.append("label: what ablating the head does, as far as the 95% intervals decide.")
    lines += [*([f"{said.capitalize()}."] if (said := centring(run)) else []), *checks.warned(run.outcome)]
    return [*lines, status(run)] if status(run) else lines


def _styled(column: Column, row: Row) -> Text:
    text = Text(column.show(row))
    if column.heading == "head":
        text.stylize("bold")
    if column.heading.startswith("self-repair") and isinstance(row["self_repair_low"], float):
        low, high = row["self_repair_low"], row["self_repair_high"]
        if low > 0:
            text.stylize("green")
        elif isinstance(high, float) and high < 0:
            text.stylize("red")
    return text


def _width(column: Column, rows: list[Row]) -> int:
    return max([cell_len(column.heading), *(cell_len(column.show(row)) for row in rows)])


def _any(values: object) -> bool:
    return bool((np.nan_to_num(np.asarray(values, float)) != 0).any())
