"""Who covers in a finished run over a corpus: its component lines, read from the results; nothing is computed again."""

from __future__ import annotations

import numpy as np
import pandas as pd

from selfrepair.errors import SelfRepairError
from selfrepair.results.filter_labels import resolve_filter
from selfrepair.results.runs import Run
from selfrepair.statistics.accumulate import BY_ATTENTION, BY_HEAD, BY_MLP

_PARTS = ("", "_standard_error", "_low", "_high")
_COLUMNS = ("line", "line_se", "line_low", "line_high")


def lines_in_run(run: Run, name: str, filter: str | None = None) -> pd.DataFrame:
    """Every downstream component's line when one head (or set) of a run is ablated, the largest first.

    Args:
        run: a finished run.
        name: of the ablated head or set, as the run has it: `L9H6`.
        filter: which tokens; the run's first filter that chooses some by default.

    Returns:
        One row per component: `component`, `line` (mean over the filter's tokens, logits), `line_se`, `line_low`,
        `line_high` (95%, over documents).

    Raises:
        SelfRepairError: the run has no such intervention or filter, or kept no lines of components.
    """
    label = resolve_filter(run, filter)
    names = [str(one) for one in run.interventions["name"].values]
    if name not in names:
        near = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
        raise SelfRepairError(f"The run has no '{name}'.", f"It has: {near}")
    if BY_MLP not in run.interventions:
        raise SelfRepairError(
            "The run kept no lines of single components.", "Run it with --components heads, or layers."
        )
    cell = run.interventions.sel(filter=label).isel(intervention=names.index(name))
    by_head = BY_HEAD in cell
    attention = BY_HEAD if by_head else BY_ATTENTION
    layers = cell.sizes["by_layer"]
    values = [np.concatenate([cell[attention + part].values.ravel(), cell[BY_MLP + part].values]) for part in _PARTS]
    if by_head:
        titles = [f"L{layer}H{head}" for layer in range(layers) for head in range(cell.sizes["by_head"])]
    else:
        titles = [f"L{layer}.attn" for layer in range(layers)]
    titles += [f"L{layer}.mlp" for layer in range(layers)]
    table = pd.DataFrame({"component": titles, **dict(zip(_COLUMNS, values, strict=True))})
    measured = table[np.isfinite(table["line"]) & (table["line"] != 0)]
    return measured.sort_values("line", ascending=False, ignore_index=True, kind="stable")
