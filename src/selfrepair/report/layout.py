"""Tables of numbers with intervals that are never cut: on narrow terminals they take more lines instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

GAP = 2  # columns between two cells


@dataclass(frozen=True)
class NumberRow:
    """One line of a table: its name, and a number with its interval for each heading."""

    name: str
    cells: Sequence[tuple[str, str]]


def fitted(corner: str, headings: Sequence[str], lines: Sequence[NumberRow], width: int) -> Table:
    """The table in the widest form that fits.

    Intervals stand beside their numbers; if that is too wide, below them; if that is too, each number gets a line of
    its own.

    Args:
        corner: heading of the names.
        headings: headings of the numbers.
        lines: the lines.
        width: width of the terminal in characters.
    """
    beside = [[line.name, *(f"{number} {interval}".rstrip() for number, interval in line.cells)] for line in lines]
    below = [[line.name, *(f"{number}\n{interval}".rstrip() for number, interval in line.cells)] for line in lines]
    for rows in (beside, below):
        if _needed([[corner, *headings], *rows]) <= width:
            return _filled([corner, *headings], rows, names=1)
    rows = []
    for line in lines:
        for index, (heading, cell) in enumerate(zip(headings, line.cells, strict=True)):
            rows.append(["" if index else line.name, heading, *cell])
    return _filled([corner, "", "", "95% interval"], rows, names=2)


def plain_table() -> Table:
    """An empty table in the one style of the package."""
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)


def _filled(headings: Sequence[str], rows: Sequence[Sequence[str]], names: int) -> Table:
    """A table whose first columns are `names`, set to the left."""
    table = plain_table()
    for index, heading in enumerate(headings):
        table.add_column(Text(heading), justify="left" if index < names else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _needed(rows: Sequence[Sequence[str]]) -> int:
    columns = zip(*rows, strict=True)
    widths = [max(cell_len(part) for cell in column for part in cell.split("\n")) for column in columns]
    return sum(widths) + GAP * (len(widths) - 1)
