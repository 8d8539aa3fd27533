"""Two runs side by side, for the terminal: in the units of the other tables, with intervals."""

from __future__ import annotations

import numpy as np
from rich.text import Text

from selfrepair.report.layout import NumberRow, fitted
from selfrepair.report.number_formats import estimate, units
from selfrepair.run.gathering.compare_runs import Comparison
from selfrepair.statistics.estimates import Estimate
from selfrepair.terminal import Console, plain


def print_comparison(console: Console, comparison: Comparison, top: int) -> None:
    """Print both runs' number, its difference, and the heads, or other interventions, that differ most.

    Args:
        console: where to print.
        comparison: the comparison.
        top: how many of them to print.
    """
    name, what = comparison.estimator, "head" if comparison.of_heads else "intervention"
    how = "paired by document" if comparison.paired else "not paired: the texts differ"
    both = "" if comparison.of_heads or comparison.unrelated else " that both runs have"
    title = f"{name} ({units(name)}), {comparison.filter}; all {what}s{both} together; {how}"
    _print(console, title, _whole(comparison))
    if comparison.differences is not None and (lines := _differing(comparison, comparison.differences, top)):
        title = (
            f"{what.capitalize()}s that differ most ({units(name)}), by difference over the half-width of its interval"
        )
        _print(console, title, lines)
    legend = "Differences are the second run minus the first. In square brackets: 95% intervals over documents."
    console.print(Text(legend, "dim"))


def _print(console: Console, title: str, lines: list[NumberRow]) -> None:
    console.print(Text(title, style="bold"))
    console.print(fitted("", ["value [95% interval]"], lines, console.width))
    console.print()


def _whole(comparison: Comparison) -> list[NumberRow]:
    """Both runs' numbers, and their difference."""
    name = comparison.estimator
    cells = [estimate(name, *_parts(number)) for number in comparison.each]
    lines = [NumberRow(called, [cell]) for called, cell in zip(comparison.names, cells, strict=True)]
    return [*lines, NumberRow("difference", [estimate(name, *_parts(comparison.change), change=True)])]


def _parts(number: Estimate) -> tuple[float, float, float]:
    return float(number.value), float(number.low), float(number.high)


def _differing(comparison: Comparison, differences: Estimate, top: int) -> list[NumberRow]:
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.nan_to_num(2 * np.abs(differences.value) / (differences.high - differences.low), nan=0, posinf=0)
    lines = []
    for index in np.argsort(-size, kind="stable")[:top]:
        if size[index] == 0:  # no difference, or one whose interval has no ends or is not known
            break
        value, low, high = (float(part[index]) for part in (differences.value, differences.low, differences.high))
        change = estimate(comparison.estimator, value, low, high, change=True)
        lines.append(NumberRow(plain(comparison.cells[index].name), [change]))
    return lines
