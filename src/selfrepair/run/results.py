"""The merged run: tables and datasets from a `Merger`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from selfrepair.results.extras import Extras
from selfrepair.results.runs import Run
from selfrepair.results.schema import heads_dataset
from selfrepair.results.windows import windows_table
from selfrepair.run.merge import Merger, Unit
from selfrepair.run.passages import passages_table
from selfrepair.run.plans import Plan
from selfrepair.run.store import Arrays
from selfrepair.statistics.accumulate import BY_ATTENTION, BY_HEAD, BY_MLP
from selfrepair.statistics.keep import token_table
from selfrepair.statistics.lines import Lines
from selfrepair.statistics.summary import Summariser


def merged(merger: Merger, status: str, seconds: float) -> Run:
    """Merges all units.

    Args:
        merger: the units.
        status: `complete`, or why it is not.
        seconds: how long the run took.
    """
    design = merger.design
    summariser, tables = Summariser(), []
    for layer in range(design.shape[0]):
        rows = layer_rows(merger.units, layer)
        summariser.add(merger.layer(layer, rows))
        if rows:
            tables.append(token_table(rows, design.windows.names))
    outcome = _outcome(merger, status, seconds)
    heads = heads_dataset(
        summariser.summary(),
        filters=[one.label for one in design.filters],
        thresholds=merger.surveyed.get("thresholds"),
        lines=merged_lines(merger.units),
        curve=merger.curves.mean(),
        edges=merger.surveyed.get("curve_edges"),
        donor_split=merger.donor_split,
        attributes=_attributes(design.plan, outcome),
    )
    tokens = pa.concat_tables(tables) if tables else token_table(_no_rows(), design.windows.names)
    extras = Extras(passages=passages_table([unit.starting_with("passages/") for unit in merger.units]))
    windows = windows_table(design.windows, design.donors)
    return Run(design.plan, outcome, heads, tokens.unify_dictionaries(), windows, extras)


def layer_rows(units: list[Unit], layer: int) -> Arrays:
    """A layer's kept tokens of all units, ordered by head, window and position; empty where there are none."""
    parts = [part for unit in units if (part := unit.starting_with(f"rows/{layer}/"))]
    if not parts:
        return {}
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((rows["position"], rows["window"], rows["head"]))
    return {name: values[order] for name, values in rows.items()}


def merged_lines(units: list[Unit]) -> Lines | None:
    """Moments of component lines, added up over units; None where none were kept."""
    totals: Arrays = {}
    for unit in units:
        for name, value in unit.starting_with("lines/").items():
            totals[name] = totals[name] + value if name in totals else value
    names = [name for name in (BY_ATTENTION, BY_MLP, BY_HEAD) if f"{name}/sum" in totals]
    return Lines(totals, names) if names else None


def _outcome(merger: Merger, status: str, seconds: float) -> dict[str, object]:
    accuracy, surveyed = merger.accuracy, merger.surveyed
    return {
        "status": status,
        "seconds": round(seconds, 1),
        "units": len(merger.units),
        "loss_nats_per_token": float(surveyed.get("loss")[0]),
        "readout_error": float(surveyed.get("readout_error")[0]),
        "numerical_floor": accuracy.floor,
        "ledger_residual": accuracy.residual,
        "ledger_closes": accuracy.closes,
        "inexact_replicates": max(merger.short, default=0.0),
    }


def _attributes(plan: Plan, outcome: dict[str, object]) -> dict[str, object]:
    """What `heads.nc` says about itself, flat."""
    ablation, text = plan["ablation"], plan["text"]
    return {
        "title": f"Self-repair of {plan['model']['name']} under {ablation['operator']} ablation",
        "model": plan["model"]["name"],
        "weights": plan["model"]["weights"],
        "dtype": plan["model"]["dtype"],
        "text": text["source"],
        "text_fingerprint": text["fingerprint"],
        "tokens": text["scored_tokens"],
        "documents": text["documents"],
        "first_position": text["first_position"],
        "operator": ablation["operator"],
        "donors": ablation["donors"],
        "seed": plan["seed"],
        "replicates": plan["replicates"],
        "engine": plan["engine"],
        "created": plan["created"],
        "software": " ".join(f"{name} {number}" for name, number in plan["versions"].items()),
        **{name: value for name, value in outcome.items() if name != "seconds"},  # the same, however it was run
    }


def _no_rows() -> Arrays:
    from selfrepair.statistics.keep import TOKEN_SCHEMA

    return {field.name: np.zeros(0, np.int32) for field in TOKEN_SCHEMA}
