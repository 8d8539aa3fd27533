"""The merged run: tables and datasets from a `Merger`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from selfrepair.results import folder
from selfrepair.results.files import putting_table
from selfrepair.results.runs import Run
from selfrepair.results.schema import described_schema, heads_dataset
from selfrepair.run.merge import Merger
from selfrepair.run.plans import Plan
from selfrepair.statistics.keep import token_table
from selfrepair.statistics.summary import Summariser


def merged(merger: Merger, place: Path, status: str, seconds: float) -> Run:
    """Merges all units; the kept tokens go to `tokens.parquet` some heads at a time.

    Args:
        merger: the units.
        place: the results folder, which holds the corpus.
        status: `complete`, or why it is not.
        seconds: how long the run took.

    Raises:
        SelfRepairError: the disk is full.
    """
    design, summariser = merger.design, Summariser()
    with putting_table(place / folder.TOKENS, described_schema()) as add:
        for layer in range(design.shape[0]):
            summariser.add(merger.layer(layer, lambda rows: add(token_table(rows, design.windows.names))))
    outcome = _outcome(merger, status, seconds)
    heads = heads_dataset(
        summariser.summary(),
        filters=[one.label for one in design.filters],
        thresholds=merger.surveyed.get("thresholds"),
        lines=merger.lines,
        curve=merger.curves.mean(),
        edges=merger.surveyed.get("curve_edges"),
        donor_split=merger.donor_split,
        attributes=_attributes(design.plan, outcome),
    )
    return Run(design.plan, outcome, heads, place / folder.TOKENS, place / folder.WINDOWS)


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
        "until": _stopped(merger),
    }


def _stopped(merger: Merger) -> dict[str, object] | None:
    """What a run that may stop early came to, with intervals that hold although it was looked at again and again."""
    looks, until = merger.looks, merger.design.until
    if until is None or looks.rule is None:
        return None
    found = looks.sequence
    widest = np.nanargmax((found.high - found.low).reshape(-1)) if np.isfinite(found.value).any() else 0
    value, low, high = (float(np.reshape(one, -1)[widest]) for one in (found.value, found.low, found.high))
    return {
        "standard_error": until.target,
        "of": until.of,
        "filter": merger.design.filters[until.filter].label,
        "reached": looks.stop is not None,
        "documents": len(merger.documents),
        "of_documents": looks.rule.planned,
        "head": str(merger.design.heads[int(widest)]) if until.of == "heads" else "all",
        "estimate": value,
        "low": low,
        "high": high,
        "rule": looks.rule.describe(),
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
