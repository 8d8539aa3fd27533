"""Heads as plain rows: sorted, cut, and with the single component that repaired most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from selfrepair.errors import SelfRepairError
from selfrepair.report.captions import resolve_filter
from selfrepair.results.runs import Run
from selfrepair.results.schema import LARGEST
from selfrepair.statistics.accumulate import QUANTITIES

Row = dict[str, str | int | float | None]
ESTIMATED = (*QUANTITIES, "lost_direct_effect", "repaired_fraction")
PARTS = ("", "_standard_error", "_low", "_high")


def head_table(
    run: Run,
    filter: str | None = None,
    sort: str = "direct_effect",
    descending: bool = True,
    top: int | None = 20,
    layers: Sequence[int] | None = None,
) -> list[Row]:
    """Heads as rows for JSON, CSV or a data frame; heads that were not measured are left out.

    Args:
        run: the run.
        filter: label or spelling of a filter; None for the top filter.
        sort: column to sort by; heads without a value come last.
        descending: largest first.
        top: how many rows; None for all.
        layers: only heads of these layers.

    Returns:
        Per head: `name` (L9H6), `layer`, `head`, `filter`, every mean with `_standard_error`, `_low`, `_high`
        (centred logits; `repaired_fraction` and `sigma_ratio` no unit), `count`, `documents`, `q_value`, `label`
        (see `statistics.labels`), `repaired_fraction_unbounded` (whether lost direct effect may be zero, so that the
        fraction may be anything and its interval has no ends), and where components were recorded `largest_repairer`
        (its name), `largest_repair` (its mean, centred logits) and `largest_repair_low` and `_high`, which allow for
        its being the largest of `largest_repair_among` components. None stands for not available, or for an interval
        that has no end.

    Raises:
        SelfRepairError: unknown filter, column or layer.
    """
    label = resolve_filter(run, filter)
    chosen = run.heads.sel(filter=label)
    known = [int(layer) for layer in run.heads["layer"].values]
    if layers is not None and set(layers) - set(known):
        raise SelfRepairError(
            f"There is no layer {min(set(layers) - set(known))}.", f"Layers are {known[0]} to {known[-1]}."
        )
    names = [name + part for name in ESTIMATED for part in PARTS] + ["count", "documents", "q_value"]
    names += [name for name in LARGEST[1:] if name in chosen]
    columns = {name: chosen[name].values for name in names}
    measured = run.heads["count"].values.any(run.heads["count"].dims.index("filter"))
    some = bool(measured.any())  # without any, a table of dashes says what there would be
    labels = chosen["label"].values
    largest = chosen[LARGEST[0]].values if LARGEST[0] in chosen else None
    rows: list[Row] = []
    for layer in known if layers is None else sorted(set(layers)):
        for head in (int(number) for number in run.heads["head"].values):
            place = known.index(layer), head
            if some and not measured[place]:
                continue
            row: Row = {"name": f"L{layer}H{head}", "layer": layer, "head": head, "filter": label}
            row |= {name: plain(values[place]) for name, values in columns.items()}
            row["label"] = str(labels[place]) if row["count"] else None
            row["repaired_fraction_unbounded"] = bool(np.isinf(columns["repaired_fraction_low"][place]))
            if largest is not None:
                row[LARGEST[0]] = str(largest[place]) or None
            rows.append(row)
    return ordered(rows, sort, descending)[:top]


def ordered(rows: list[Row], sort: str, descending: bool) -> list[Row]:
    """Rows by a column, those without a value last.

    Raises:
        SelfRepairError: no such column.
    """
    if rows and sort not in rows[0]:
        listed = ", ".join(name for name in rows[0] if not name.endswith(PARTS[1:]))
        raise SelfRepairError(f"Cannot sort by {sort!r}.", f"Columns are: {listed}.")
    filled = [row for row in rows if row[sort] is not None]
    empty = [row for row in rows if row[sort] is None]
    return sorted(filled, key=lambda row: row[sort], reverse=descending) + empty  # type: ignore[arg-type,return-value]


def plain(value: np.generic | np.ndarray) -> int | float | None:
    """A Python number; None for what is not finite, which JSON cannot hold."""
    if np.issubdtype(value.dtype, np.integer):
        return int(value)
    return float(value) if np.isfinite(value) else None
