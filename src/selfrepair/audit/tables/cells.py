"""What all tables of this folder share: numbers with their ends, and a foot that says what every number is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from selfrepair.audit.question import Question
from selfrepair.report.layout import plain_table
from selfrepair.report.number_formats import DASH, effect, share, signed, small
from selfrepair.statistics.estimates import Estimate
from selfrepair.terminal import plain


def logits(estimate: Estimate) -> str:
    """A mean in logits with its interval or range."""
    return " ".join(effect(*_ends(estimate))).strip()


def part(estimate: Estimate) -> str:
    """A share in per cent with its interval or range; in round brackets where it may be anything."""
    value, low, high = _ends(estimate)
    if not math.isfinite(value):
        return DASH
    shown, ends = share(value, low, high)
    return f"({shown})" if not math.isfinite(low) else f"{shown} {ends}".strip()


def signed_or_dash(value: float, digits: int = 2) -> str:
    """`+0.12`; a dash where there is none."""
    return signed(value, digits)


def probability(value: float) -> str:
    """A p or q value."""
    if math.isnan(value):
        return DASH
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> Table:
    """A table whose first columns are set to the left."""
    made = plain_table()
    for place, heading in enumerate(headings):
        made.add_column(Text(heading), justify="left" if place < left else "right", no_wrap=place >= left)
    for row in rows:
        made.add_row(*(Text(plain(cell)) for cell in row))
    return made


def foot(question: Question, operator: str, residual: float, floor: float | None = None) -> str:
    """What every number above is: metric, ablation, positions, prompts, intervals, rounding."""
    prompts, sampling = question.prompts, question.sampling
    wrong = any(prompts.wrong)
    metric = "mean logit of the answers less that of the wrong ones" if wrong else "centred logit of the answers"
    groups = len(set(prompts.groups))
    said = [
        f"{metric}, at each prompt's answer position",
        f"{operator} ablation at all positions unless a site names some",
        f"{len(prompts)} prompts in {groups} group{'s' if groups != 1 else ''}; {sampling.in_words}",
    ]
    rounding = f"ledger residual {small(residual)}"
    if floor is not None:
        rounding += f", numerical floor {small(floor)}"
    return "; ".join([*said, f"{rounding} logits"]) + "."


def _ends(estimate: Estimate) -> tuple[float, float, float]:
    return float(estimate.value), float(estimate.low), float(estimate.high)
