"""The merged run: tables and datasets from a `Pool`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from selfrepair.results import checks, manifest, run_folder
from selfrepair.results.atomic_files import putting_table
from selfrepair.results.dataset import heads_dataset
from selfrepair.results.extras import Extras
from selfrepair.results.plan import Plan
from selfrepair.results.proven import Stored
from selfrepair.results.runs import Run
from selfrepair.results.schema import described_schema
from selfrepair.results.windows_file import joined_names
from selfrepair.run.gathering.all_texts import Pool
from selfrepair.run.gathering.best_effort import never_costs_the_run
from selfrepair.run.gathering.measured_text import MeasuredText
from selfrepair.run.planning import reload
from selfrepair.run.storage.unit_file import Arrays
from selfrepair.run.unit.passages import passages_table
from selfrepair.statistics.keep import token_table
from selfrepair.statistics.summary import Summariser
from selfrepair.text.document_sources import source_in_words

_OF_ITS_MAKING = ("seconds", "made_of")  # `heads.nc` is the same, however and wherever the run was done


def merged(pool: Pool, plan: Plan, folder: Path, status: str, seconds: float) -> Run:
    """Merges all units; the kept tokens go to a staged file some heads at a time, which `write_results` takes.

    Args:
        pool: the units.
        plan: the run's plan.
        folder: the results folder, which holds the corpus.
        status: `complete`, or why it is not; a complete run whose checks fail gets `checks.FAILED`.
        seconds: how long the run took.

    Raises:
        SelfRepairError: the disk is full.
        Damaged: a unit is gone, or not what was written.
    """
    summariser, names = Summariser(), joined_names([merger.design.windows for merger in pool.mergers])
    starts = np.cumsum([0, *(len(merger.design.windows) for merger in pool.mergers)])
    kept = manifest.staging(folder) / run_folder.TOKENS
    with putting_table(kept, described_schema()) as file:

        def booked(text: int, rows: Arrays) -> None:
            shifted = rows | {"window": rows["window"] + starts[text]}
            file.add(token_table(shifted, names[text], pool.design.filters))

        for layer in range(pool.design.shape[0]):
            summariser.add(pool.layer(layer, booked))
    outcome = _outcome(pool, status, seconds)
    heads = heads_dataset(
        summariser.summary(),
        filters=[filter_.label for filter_ in pool.design.filters],
        thresholds=pool.surveyed("thresholds"),
        lines=pool.lines,
        curve=pool.curves.mean(),
        edges=pool.surveyed("curve_edges"),
        donor_split=pool.donor_split,
        donors_needed=pool.donors_needed,
        cells=pool.design.axis,
        attributes=_attributes(plan, outcome, pool),
    )
    units = [(starts[text], unit) for text, merger in enumerate(pool.mergers) for unit in merger.units]
    passages = None
    with never_costs_the_run("whole passages"):
        passages = passages_table([(int(start), unit.starting_with("passages/")) for start, unit in units])
    corpus = reload.proven_corpus(plan, folder / run_folder.WINDOWS)
    return Run(plan, outcome, heads, Stored(kept, file.digests), corpus, Extras(passages=passages))


def _outcome(pool: Pool, status: str, seconds: float) -> dict[str, object]:
    accuracy, judgement = pool.accuracy, pool.judgement
    return {
        "status": checks.FAILED if judgement.failed and status == "complete" else status,
        "seconds": round(seconds, 1),
        "units": pool.units,
        "units_missing": pool.missing,
        "made_of": pool.made_of,
        "loss_nats_per_token": pool.loss,
        "readout_error": pool.readout_error[0],
        "numerical_floor": accuracy.floor,
        "ledger_residual": accuracy.residual,
        "ledger_closes": accuracy.closes,
        "relative_error": accuracy.relative_error,
        "failed_checks": list(judgement.failed),
        "warnings": list(judgement.warnings),
        "inexact_replicates": pool.short,
        "until": stopping_facts(pool.mergers[0].part) if len(pool.mergers) == 1 else None,
    }


def stopping_facts(part: MeasuredText) -> dict[str, object] | None:
    """The estimate of a run that may stop early, with intervals that hold although it was looked at repeatedly."""
    so_far, until = part.so_far, part.design.until
    if until is None or so_far.rule is None:
        return None
    intervals = so_far.sequence
    widest = np.nanargmax((intervals.high - intervals.low).reshape(-1)) if np.isfinite(intervals.value).any() else 0
    ends = intervals.value, intervals.low, intervals.high, intervals.standard_error
    value, low, high, error = (float(np.reshape(end, -1)[widest]) for end in ends)
    return {
        "standard_error": until.target,
        "of": until.of,
        "filter": part.design.filters[until.filter].label,
        "reached": so_far.stop is not None,
        "documents": len(part.documents),
        "exact_documents": part.exact_documents,
        "of_documents": so_far.rule.planned,
        "head": part.design.at[part.design.heads[int(widest)]].name if until.of == "heads" else "all",
        "estimate": value,
        "low": low,
        "high": high,
        "reached_standard_error": error,
        "rule": so_far.rule.describe(),
    }


def _read(pool: Pool) -> dict[str, int]:
    """Documents of both phases that were read: all that the plan has, if the run went on to its end."""
    parts = [merger.part for merger in pool.mergers]
    return {
        "phases_documents": sum(len(part.documents) for part in parts),
        "phases_exact_documents": sum(part.exact_documents for part in parts),
    }


def _attributes(plan: Plan, outcome: dict[str, object], pool: Pool) -> dict[str, object]:
    """The attributes of `heads.nc`, flat."""
    ablation, text = plan["ablation"], plan["text"]
    return {
        "title": f"Self-repair of {plan['model']['name']} under {ablation['operator']} ablation",
        "model": plan["model"]["name"],
        "weights": plan["model"]["weights"],
        "dtype": plan["model"]["dtype"],
        "precision": plan["model"]["precision"],
        "text": source_in_words(text),
        "text_fingerprint": text["fingerprint"],
        "tokens": text["scored_tokens"],
        "documents": text["documents"],
        "texts": len(plan["texts"]) if "texts" in plan else 1,
        "first_position": text["first_position"],
        "operator": ablation["operator"],
        "positions": ablation["positions"],
        "donors": ablation["donors"],
        "seed": plan["seed"],
        "replicates": plan["replicates"],
        "engine": plan["engine"],
        **({} if plan["phases"] is None else {f"phases_{name}": value for name, value in plan["phases"].items()}),
        **({} if plan["phases"] is None else _read(pool)),
        "created": plan["created"],
        "software": " ".join(f"{name} {number}" for name, number in plan["versions"].items()),
        **{name: value for name, value in outcome.items() if name not in _OF_ITS_MAKING},
    }
