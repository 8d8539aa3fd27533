"""A model's card: the share of lost direct effects that is repaired, what repairs it, and its profile over depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.text import Text

from selfrepair.report.captions import (
    ablated,
    amount,
    chosen_tokens,
    errors,
    fact,
    lost,
    operator_with_donors,
    positions_left_out,
)
from selfrepair.report.layout import fitted
from selfrepair.report.number_formats import known
from selfrepair.report.rows import PARTS, Row, strict, unbounded
from selfrepair.report.run_tables import NOT_EVERYWHERE, SHARES, UNSURE, share_line
from selfrepair.results.filter_labels import resolve_filter
from selfrepair.results.intervention_axis import LAYERS
from selfrepair.results.runs import Run
from selfrepair.statistics.pooled import CARD, FRACTIONS
from selfrepair.terminal import Console


def card_table(run: Run, filter: str | None = None) -> list[Row]:
    """The card as rows for JSON or a data frame: the whole model, then its layers that were measured.

    Args:
        run: the run.
        filter: label or spelling of a filter; None for the top filter.

    Returns:
        Per row: `part` (`model` or `layer 3`), `layer` (None for the model), `filter`, and of every number of
        `statistics.pooled.CARD` the value, `_standard_error`, `_low` and `_high`; of shares also `_unbounded`, whether
        the interval reaches to infinity. None stands for not available, and for an end at infinity.

    Raises:
        SelfRepairError: unknown filter.
    """
    return [{name: strict(value) for name, value in row.items()} for row in _rows(run, resolve_filter(run, filter))]


def _rows(run: Run, label: str) -> list[Row]:
    """The rows with numbers as they are, infinite ends included."""
    chosen = run.interventions.sel(filter=label)
    names = [name + part for name in CARD for part in PARTS]
    parts = [("model", None, chosen, "pooled_")]
    for layer in np.unique(chosen["layer"].values[chosen["count"].values > 0]).tolist():
        parts.append((f"layer {layer}", layer, chosen.sel({LAYERS: layer}), "layer_"))
    rows: list[Row] = []
    for part, number, cell, start in parts:
        row: Row = {"part": part, "layer": number, "filter": label}
        row |= {name: cell[f"{start}{name}"].values.item() for name in names}
        rows.append(row | {f"{name}_unbounded": unbounded(row, name) for name in FRACTIONS})
    return rows


def print_model_card(console: Console, run: Run, filter: str | None = None) -> None:
    """Print the card; arguments as `card_table`.

    Raises:
        SelfRepairError: unknown filter.
    """
    label = resolve_filter(run, filter)
    rows = _rows(run, label)
    shares = {heading: name for heading, name in SHARES.items() if name not in NOT_EVERYWHERE or _any(rows, name)}
    lines = [share_line(str(row["part"]), row, list(shares.values())) for row in rows]
    console.print(Text(f"{fact(run, 'model')}: the share of {lost(run)} that is made good", style="bold"))
    console.print(Text(operator_with_donors(run)))
    console.print(Text(f"filter: {chosen_tokens(label, ablated(run))}; {amount(run, label)}"))
    console.print()
    console.print(fitted("", ["lost DE", *shares], lines, console.width))
    console.print(
        Text(f"Shares of lost DE, {UNSURE}. Square brackets: {errors(run)}; {positions_left_out(run)}.", "dim"),
    )


def _any(rows: Sequence[Row], name: str) -> bool:
    return any(known(row[name]) and row[name] != 0 for row in rows)
