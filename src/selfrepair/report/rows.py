"""Heads, or other interventions, as plain rows: sorted, cut, and with the single component that repaired most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from selfrepair.ablation.names import named_layers
from selfrepair.errors import SelfRepairError
from selfrepair.results.filter_labels import resolve_filter
from selfrepair.results.intervention_axis import LAYERS
from selfrepair.results.quantities import LARGEST
from selfrepair.results.runs import Run
from selfrepair.statistics.accumulate import QUANTITIES

Row = dict[str, str | int | float | None]
ESTIMATED = (*QUANTITIES, "lost_direct_effect", "repaired_fraction")
PARTS = ("", "_standard_error", "_low", "_high")
# Headings of the printed table, each with the column of `head_table` that it shows and sorts by.
HEADINGS = {
    "intervention": "name",
    "head": "name",
    "DE": "direct_effect",
    "lost DE": "lost_direct_effect",
    "total": "total_effect",
    "self-repair": "self_repair",
    "repaired": "repaired_fraction",
    "heads": "repair_heads",
    "MLPs": "repair_mlps",
    "mixers": "repair_mixers",
    "post-norms": "repair_post_norms",
    "norm": "repair_norm",
    "largest repairer": "largest_repair",
    "tokens": "count",
    "docs": "documents",
    "label": "label",
}


def head_table(
    run: Run,
    filter: str | None = None,
    sort: str = "direct_effect",
    descending: bool = True,
    top: int | None = 20,
    layers: Sequence[int | str] | str | None = None,
) -> list[Row]:
    """Heads, or other interventions, as rows for JSON, CSV or a data frame; unmeasured ones are left out.

    Args:
        run: the run.
        filter: label or spelling of a filter; None for the top filter.
        sort: column to sort by, by its name here or by its heading in the printed table (`HEADINGS`); heads without a
            value come last.
        descending: largest first.
        top: how many rows; None for all.
        layers: only heads of these layers: numbers, or spelled as in `named_layers`.

    Returns:
        Per head or intervention: `name` (L9H6), `layer`, `head` (its place in the layer), `filter`, every mean with
        `_standard_error`, `_low`, `_high` (centred logits; `repaired_fraction` and `sigma_ratio` no unit),
        `repaired_fraction_unbounded` (whether lost direct effect may be zero, so that the fraction may be anything and
        its interval has no ends), `count`, `documents`, `q_value`, `label` (see `statistics.labels`), and where
        components were recorded `largest_repairer` (its name), `largest_repair` (its mean, centred logits) and
        `largest_repair_low` and `_high`, which allow for its being the largest of `largest_repair_among` components.
        None stands for not available, or for an interval that has no end.

    Raises:
        SelfRepairError: unknown filter, column or layer.
    """
    rows = head_rows(run, filter, sort, descending, top, layers)
    return [{name: strict(value) for name, value in row.items()} for row in rows]


def head_rows(
    run: Run,
    filter: str | None = None,
    sort: str = "direct_effect",
    descending: bool = True,
    top: int | None = 20,
    layers: Sequence[int | str] | str | None = None,
) -> list[Row]:
    """The rows of `head_table` with numbers as they are: NaN where there is none, infinite ends of intervals."""
    label = resolve_filter(run, filter)
    chosen = run.interventions.sel(filter=label)
    wanted = None if layers is None else set(named_layers(layers, list(range(chosen.sizes[LAYERS]))))
    names = [name + part for name in ESTIMATED for part in PARTS] + ["count", "documents", "q_value"]
    names += [name for name in LARGEST[1:] if name in chosen]
    columns = {name: chosen[name].values for name in ("name", "layer", "head", *names, "label")}
    largest = chosen[LARGEST[0]].values if LARGEST[0] in chosen else None
    rows: list[Row] = []
    for index in _measured(run):
        row: Row = {"name": str(columns["name"][index]), "layer": int(columns["layer"][index])}
        if wanted is not None and row["layer"] not in wanted:
            continue
        row |= {"head": int(columns["head"][index]), "filter": label}
        row |= {name: columns[name][index].item() for name in names}
        row["repaired_fraction_unbounded"] = unbounded(row, "repaired_fraction")
        row["label"] = str(columns["label"][index]) if row["count"] else None
        if largest is not None:
            row[LARGEST[0]] = str(largest[index]) or None
        rows.append(row)
    return ordered(rows, sort, descending)[:top]


def _measured(run: Run) -> np.ndarray:
    """Indices of the interventions that were measured; all if none was: a table of dashes shows what to expect."""
    counts = run.interventions["count"]
    measured = counts.values.any(counts.dims.index("filter"))
    return np.flatnonzero(measured if measured.any() else ~measured)


def column_of(sort: str, rows: Sequence[Row]) -> str:
    """The column that a name or a printed heading means; spaces, dashes and underscores are alike, case is ignored.

    Raises:
        SelfRepairError: no such column.
    """
    columns = list(rows[0]) if rows else list(HEADINGS.values())
    spelled = {_plainly(heading): column for heading, column in HEADINGS.items() if column in columns}
    spelled = {_plainly(name): name for name in columns} | spelled
    if _plainly(sort) in spelled:
        return spelled[_plainly(sort)]
    listed = ", ".join(name for name in columns if not name.endswith((*PARTS[1:], "_unbounded")))
    raise SelfRepairError(f"Cannot sort by {sort!r}.", f"Columns are: {listed}; or give a heading of the table.")


def _plainly(name: str) -> str:
    return "_".join(name.lower().replace("-", " ").replace("_", " ").split())


def ordered(rows: list[Row], sort: str, descending: bool) -> list[Row]:
    """Rows by a column, those without a value last.

    Raises:
        SelfRepairError: no such column.
    """
    column = column_of(sort, rows)
    if column == "name":
        return sorted(rows, key=lambda row: (row["layer"], row["head"]), reverse=descending)
    empty = [row for row in rows if strict(row[column]) is None]
    filled = [row for row in rows if strict(row[column]) is not None]
    return sorted(filled, key=lambda row: row[column], reverse=descending) + empty  # type: ignore[arg-type,return-value]


def unbounded(row: Row, name: str) -> bool:
    """Whether the interval of a number reaches to infinity: Fieller's does where the denominator may be zero."""
    ends = (row[f"{name}_low"], row[f"{name}_high"])
    return any(isinstance(end, float) and bool(np.isinf(end)) for end in ends)


def strict(value: str | int | float | None) -> str | int | float | None:
    """The value, or None if it is not finite, which JSON cannot hold."""
    return None if isinstance(value, float) and not np.isfinite(value) else value
