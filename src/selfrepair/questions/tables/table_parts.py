"""What all tables of this folder share: numbers with their ends, and a foot that says what every number is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from selfrepair.questions.measuring.metrics import metric_named
from selfrepair.questions.question import Question
from selfrepair.report.layout import GAP, plain_table
from selfrepair.report.number_formats import DASH, effect, share, signed, small
from selfrepair.statistics.estimates import Estimate
from selfrepair.terminal import plain


def logits(estimate: Estimate) -> str:
    """A mean in logits with its interval or range, where there is one."""
    return with_ends(*effect(*_ends(estimate)))


def part(estimate: Estimate) -> str:
    """A share in per cent with its interval or range, see `share_cell`."""
    return share_cell(*_ends(estimate))


def share_cell(value: float, low: float, high: float) -> str:
    """A share in per cent with its ends; in round brackets where it may be anything."""
    if not math.isfinite(value):
        return DASH
    shown, ends = share(value, low, high)
    return f"({shown})" if math.isinf(low) else with_ends(shown, ends)


def with_ends(number: str, ends: str) -> str:
    """A number and its interval; without the interval where there is none."""
    return number if DASH in ends else f"{number} {ends}".strip()


def signed_or_dash(value: float, digits: int = 2) -> str:
    """`+0.12`; a dash where there is none."""
    return signed(value, digits)


def probability(value: float) -> str:
    """A p or q value."""
    if math.isnan(value):
        return DASH
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


@dataclass(frozen=True)
class Column:
    """A column: its heading, whether it is set to the left, and how soon it is left out where there is no room.

    Attributes:
        heading: above it.
        left: set to the left.
        spare: columns with the largest number go first; those with 0 stay.
    """

    heading: str
    left: bool = False
    spare: int = 0


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Table:
    """A table of whole cells; columns that can be spared are left out where the terminal is narrow.

    Args:
        columns: of the table.
        rows: one cell for each column.
        width: characters there are.
    """
    shown = list(range(len(columns)))
    while (
        _needed([columns[place].heading for place in shown], [[row[place] for place in shown] for row in rows]) > width
    ):
        spare = max(shown, key=lambda place: (columns[place].spare, place))
        if columns[spare].spare == 0:
            break
        shown.remove(spare)
    made = plain_table()
    for place in shown:
        column = columns[place]
        made.add_column(Text(column.heading), justify="left" if column.left else "right", overflow="fold")
    for row in rows:
        made.add_row(*(Text(plain(row[place])) for place in shown))
    return made


def _needed(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Characters that a table takes."""
    widths = [max(map(cell_len, column)) for column in zip(headings, *rows, strict=True)]
    return sum(widths) + GAP * len(widths)


def foot(question: Question, operator: str, residual: float, floor: float | None = None) -> str:
    """What every number above is: metric, ablation, positions, prompts, intervals, rounding."""
    prompts, sampling = question.prompts, question.sampling
    metric = metric_named(question.settings.metric)
    groups = len(set(prompts.groups))
    said = [
        f"{metric.describe(prompts)}, at each prompt's answer position",
        f"{operator} ablation at all positions unless a site names some",
        f"{_counted(len(prompts), 'prompt')} in {_counted(groups, 'group')}; {sampling.in_words}",
    ]
    rounding = f"ledger residual {small(residual)}"
    if floor is not None:
        rounding += f", numerical floor {small(floor)}"
    return "; ".join([*said, f"{rounding} {metric.units}"]) + "."


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _ends(estimate: Estimate) -> tuple[float, float, float]:
    return float(estimate.value), float(estimate.low), float(estimate.high)
