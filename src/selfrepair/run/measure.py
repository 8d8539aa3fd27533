"""The main job: survey, sweep, and a `Run` with its ledgers summed."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from selfrepair.ablation.donors import draw_donors
from selfrepair.ablation.operators import Operator, operator
from selfrepair.ablation.units import Head, all_heads
from selfrepair.engine import Engine, engine_named
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.results import folder
from selfrepair.results.runs import Run
from selfrepair.results.schema import heads_dataset
from selfrepair.run import plans
from selfrepair.run.batches import batch_size
from selfrepair.run.survey import Survey, survey
from selfrepair.run.sweep import Accuracy, Design, sweep
from selfrepair.statistics.accumulate import Components, DocumentSums
from selfrepair.statistics.filters import DEFAULT_FILTERS, Filter, all_thresholds
from selfrepair.statistics.keep import KeptTokens, keep_thresholds
from selfrepair.text import Windows


class LedgerDoesNotClose(UserWarning):
    """Numbers that must not be used: on some token the lines do not add up to the self-repair."""


def measure(
    model: LanguageModel,
    windows: Windows,
    *,
    ablation: str | Operator = "resample",
    donors: int = 1,
    filters: Sequence[Filter | str] = DEFAULT_FILTERS,
    engine: str | Engine = "replay",
    components: Components = "heads",
    units: Sequence[tuple[int, int]] | None = None,
    batch: int | None = None,
    memory: float | None = None,
    seed: int = 0,
    first: int = 1,
    sample: int = 64,
    out: str | Path | None = None,
    progress: bool = True,
) -> Run:
    """Ablates heads one by one and keeps the ledger of self-repair.

    Interrupted (Ctrl-C), it returns what had been computed, with status `interrupted`.

    Args:
        model: from `load`.
        windows: from `windows`.
        ablation: an operator, or the name of a built-in one.
        donors: donors per window, for `resample`.
        filters: which tokens numbers average over, per head.
        engine: an engine, or the name of one.
        components: `heads` keeps a line for every downstream head, `layers` one per attention and MLP layer.
        units: (layer, head) pairs to ablate; all heads by default.
        batch: windows at a time; by default what fits in memory.
        memory: gigabytes that a batch may take.
        seed: of donors and of the uniform sample of kept tokens.
        first: first position that statistics count; position 0 has no context, and often a huge norm.
        sample: how many tokens the uniform sample keeps per head.
        out: results folder to write; nothing is written without it.
        progress: whether to show progress.

    Returns:
        The run: means per filter and head, kept tokens, windows and plan.

    Raises:
        SelfRepairError: no donors, no scored tokens, a folder that exists, a disk that is full.
    """
    started = time.time()
    place = None if out is None else folder.prepare_folder(out)
    chosen = operator(ablation, donors) if isinstance(ablation, str) else ablation
    heads = all_heads(model.anatomy) if units is None else _checked_units(model, units)
    wanted = [Filter.parse(given) if isinstance(given, str) else given for given in filters]
    size = batch or batch_size(model, windows.length, components == "heads", chosen.donors, memory)
    design = Design(
        model=model,
        windows=windows,
        operator=chosen,
        donors=draw_donors(windows, chosen.donors, seed),
        engine=engine_named(engine) if isinstance(engine, str) else engine,
        units=heads,
        batch=size,
        components=components,
        first=first,
    )
    plan = plans.plan(design, wanted, seed, sample)
    table = _windows_table(windows, design.donors)
    if place is not None:
        folder.write_plan(plan, place)
        folder.write_windows(table, place)
    surveyed = survey(model, windows, size, first, progress)
    sums, kept = _ledger_books(design, surveyed, wanted, seed, sample)
    accuracy = Accuracy()
    try:
        sweep(design, surveyed, sums, kept, accuracy, progress)
        status = "complete"
    except KeyboardInterrupt:
        status = "interrupted"
    plan = plans.finished(plan, design, surveyed, accuracy, status, time.time() - started)
    run = Run(plan, heads_dataset(sums, plans.attributes(plan)), kept.table(), table)
    if place is not None:
        folder.write(run, place)
    if not accuracy.closes:
        warnings.warn(
            f"The ledger does not close: on some token its lines miss the self-repair by {accuracy.residual:.1e} "
            "logits, more than rounding explains. Do not use these numbers.",
            LedgerDoesNotClose,
            stacklevel=2,
        )
    return run


def _ledger_books(
    design: Design, surveyed: Survey, filters: list[Filter], seed: int, sample: int
) -> tuple[DocumentSums, KeptTokens]:
    windows, anatomy = design.windows, design.model.anatomy
    scored, documents = windows.scored(design.first), windows.documents[:, :-1]
    sums = DocumentSums(
        filters,
        all_thresholds(filters, surveyed.direct_effects),
        scored,
        documents,
        (anatomy.layers, anatomy.heads),
        design.components,
    )
    kept = KeptTokens(
        keep_thresholds(filters, surveyed.direct_effects),
        tokens=windows.tokens,
        documents=documents,
        names=windows.names,
        scored=scored,
        sample=sample,
        seed=seed,
    )
    return sums, kept


def _checked_units(model: LanguageModel, units: Sequence[tuple[int, int]]) -> list[Head]:
    known = set(all_heads(model.anatomy))
    heads = sorted({Head(*unit) for unit in units}, reverse=True)
    unknown = [str(head) for head in heads if head not in known]
    if unknown or not heads:
        raise SelfRepairError(
            f"There are no heads {', '.join(unknown)}." if unknown else "No heads to ablate were given.",
            f"The model has layers 0 to {model.anatomy.layers - 1} with heads 0 to {model.anatomy.heads - 1}.",
        )
    return heads


def _windows_table(windows: Windows, donors: np.ndarray) -> pa.Table:
    """`windows.parquet`: enough to recompute any number with other software."""
    names = [[windows.names[d] for d in sorted(documents)] for documents in windows.document_sets()]
    real = [windows.tokens[i, : windows.lengths[i]].tolist() for i in range(len(windows))]
    return pa.table(
        {
            "window": pa.array(range(len(windows)), pa.int64()),
            "document": pa.array(names, pa.list_(pa.string())),
            "length": pa.array(windows.lengths, pa.int64()),
            "tokens": pa.array(real, pa.list_(pa.int64())),
            "donors": pa.array(donors.tolist(), pa.list_(pa.int64())),
        }
    )
