"""Heads as plain rows: sorted, cut, and with the single component that repaired most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from selfrepair.errors import SelfRepairError
from selfrepair.report.captions import resolve_filter
from selfrepair.results.runs import Run
from selfrepair.statistics.accumulate import BY_ATTENTION, BY_HEAD, BY_MLP, QUANTITIES

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
        (see `statistics.labels`), and where components were recorded `largest_repairer` and `largest_repair`.
        None stands for not available.

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
    columns = {name: chosen[name].values for name in names}
    measured = run.heads["count"].values.any(run.heads["count"].dims.index("filter"))
    some = bool(measured.any())  # without any, a table of dashes says what there would be
    largest, labels = largest_repairers(chosen), chosen["label"].values
    rows: list[Row] = []
    for layer in known if layers is None else sorted(set(layers)):
        for head in (int(number) for number in run.heads["head"].values):
            place = known.index(layer), head
            if some and not measured[place]:
                continue
            row: Row = {"name": f"L{layer}H{head}", "layer": layer, "head": head, "filter": label}
            row |= {name: plain(values[place]) for name, values in columns.items()}
            row["label"] = str(labels[place]) if row["count"] else None
            rows.append(row | largest.get(place, {}))
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


def largest_repairers(chosen: xr.Dataset) -> dict[tuple[int, int], Row]:
    """The component with the largest positive repair of each head; empty without recorded components."""
    lines, names = [], []
    if BY_HEAD in chosen:
        values = chosen[BY_HEAD].values
        lines.append(values.reshape(*values.shape[:2], -1))
        names += [f"L{layer}H{head}" for layer in range(values.shape[2]) for head in range(values.shape[3])]
    elif BY_ATTENTION in chosen:
        lines.append(chosen[BY_ATTENTION].values)
        names += [f"attention {layer}" for layer in range(lines[-1].shape[-1])]
    if BY_MLP in chosen:
        lines.append(chosen[BY_MLP].values)
        names += [f"MLP {layer}" for layer in range(lines[-1].shape[-1])]
    if not lines:
        return {}
    repair = np.nan_to_num(np.concatenate(lines, axis=-1), nan=-np.inf)
    best = repair.argmax(axis=-1)
    found: dict[tuple[int, int], Row] = {}
    for place in np.ndindex(best.shape):
        value = float(repair[place][best[place]])
        helped = value > 0
        found[place[0], place[1]] = {
            "largest_repairer": names[best[place]] if helped else None,
            "largest_repair": value if helped else None,
        }
    return found


def plain(value: np.generic | np.ndarray) -> int | float | None:
    """A Python number; None for what is not finite, which JSON cannot hold."""
    if np.issubdtype(value.dtype, np.integer):
        return int(value)
    return float(value) if np.isfinite(value) else None
