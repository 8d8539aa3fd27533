"""Two runs side by side, for the terminal: in the units of the other tables, with intervals."""

from __future__ import annotations

import numpy as np
from rich.text import Text

from selfrepair.report.layout import NumberRow, fitted
from selfrepair.report.number_formats import estimate, units
from selfrepair.run.gathering.compare_runs import Comparison
from selfrepair.statistics.estimates import Estimate
from selfrepair.terminal import Console, plain


def print_comparison(console: Console, found: Comparison, top: int) -> None:
    """Print both runs' number, its difference, and the heads, or other interventions, that differ most.

    Args:
        console: where.
        found: the comparison.
        top: how many of these.
    """
    name, what = found.estimator, "head" if found.of_heads else "intervention"
    how = "paired by document" if found.paired else "not paired: the texts differ"
    both = "" if found.of_heads or found.unrelated else " that both runs have"
    _print(console, f"{name} ({units(name)}), {found.filter}; all {what}s{both} together; {how}", _whole(found))
    if found.differences is not None and (lines := _differing(found, found.differences, top)):
        title = (
            f"{what.capitalize()}s that differ most ({units(name)}), by difference over the half-width of its interval"
        )
        _print(console, title, lines)
    said = "Differences are the second run minus the first. In square brackets: 95% intervals over documents."
    console.print(Text(said, "dim"))


def _print(console: Console, title: str, lines: list[NumberRow]) -> None:
    console.print(Text(title, style="bold"))
    console.print(fitted("", ["value [95% interval]"], lines, console.width))
    console.print()


def _whole(found: Comparison) -> list[NumberRow]:
    """Both runs' numbers, and their difference."""
    name = found.estimator
    cells = [estimate(name, *_parts(one)) for one in found.each]
    lines = [NumberRow(called, [cell]) for called, cell in zip(found.names, cells, strict=True)]
    return [*lines, NumberRow("difference", [estimate(name, *_parts(found.change), change=True)])]


def _parts(one: Estimate) -> tuple[float, float, float]:
    return float(one.value), float(one.low), float(one.high)


def _differing(found: Comparison, differences: Estimate, top: int) -> list[NumberRow]:
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.nan_to_num(2 * np.abs(differences.value) / (differences.high - differences.low), nan=0, posinf=0)
    lines = []
    for place in np.argsort(-size, kind="stable")[:top]:
        if size[place] == 0:  # no difference, or one whose interval has no ends or is not known
            break
        value, low, high = (float(part[place]) for part in (differences.value, differences.low, differences.high))
        lines.append(
            NumberRow(plain(found.cells[place].name), [estimate(found.estimator, value, low, high, change=True)])
        )
    return lines
