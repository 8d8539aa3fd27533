"""The ledger's lines for the page, which has no names of lines in its own code."""

from __future__ import annotations

from typing import Any

import numpy as np

from selfrepair.effects.lines import LINES, Line
from selfrepair.results.runs import Run


def lines(run: Run) -> list[dict[str, Any]]:
    """The lines that a run's model has, in the order of the ledger.

    Returns:
        Per line: `quantity` and `share`, the names of its mean and its share of the lost direct effect; `short` and
        `text`, its name and explanation; `components`, kinds that add up to it; `stroke`, its place among all lines,
        which keeps its colour.
    """
    return [
        {
            "quantity": line.quantity,
            "share": line.share,
            "short": line.short,
            "text": line.text,
            "components": list(line.components),
            "stroke": index,
        }
        for index, line in enumerate(LINES)
        if line not in absent(run)
    ]


def absent(run: Run) -> tuple[Line, ...]:
    """Lines of mechanisms that the run's model does not have."""
    numbers = run.interventions
    return tuple(
        line for line in LINES if not line.everywhere and not (np.nan_to_num(numbers[line.quantity].values) != 0).any()
    )
