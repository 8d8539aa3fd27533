"""The engine of a run, with all its settings, and the plan's entries on it and on sizes of batches and units."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from selfrepair.ablation.operators import Operator
from selfrepair.ablation.sites import Head, Site, usual_sites
from selfrepair.engine import DeltaEngine, Engine, ReplayEngine, engine_made_by_name, engine_named
from selfrepair.engine.choice import Choice, choose, delta, require_right
from selfrepair.engine.clean import clean_run
from selfrepair.engine.contract import is_exact
from selfrepair.engine.delta.matmul import PRECISIONS
from selfrepair.engine.own_position.single_positions import OwnPositionEngine
from selfrepair.engine.trial import RunSize
from selfrepair.errors import SelfRepairError
from selfrepair.model.faults import finding
from selfrepair.model.language_model import LanguageModel
from selfrepair.results.plan import EngineFacts, PhasesFacts
from selfrepair.run.planning.batch_size import MemoryPlan, plan_memory, tokens_of, windows_per_unit
from selfrepair.run.planning.settings import Settings
from selfrepair.statistics.filters import Filter
from selfrepair.statistics.keep_limits import widest
from selfrepair.text import Windows

_MARGIN = 1.5  # kept tokens beyond those that a filter takes, for the bootstrap's limits
_UNEVEN = 1.2  # windows of unequal lengths go together
_EXACT_POSITIONS = 64  # in two phases, of engines with programs for full batches: a unit has few windows to fill them
_SURROGATE_COST = 0.1  # of an exact sweep, for sizes of units


def exact_share(phases: PhasesFacts | None) -> float:
    """Share of the documents that are measured exactly."""
    return 1.0 if phases is None else phases["exact_documents"] / phases["documents"]


def planned_engine(
    model: LanguageModel,
    windows: Windows,
    settings: Settings,
    heads: list[Head],
    chosen: Operator,
    phases: PhasesFacts | None,
    filters: Sequence[Filter] | None,
) -> tuple[Engine, EngineFacts]:
    """The engine with all its settings, and the plan's entries on it and on batch sizes.

    Args:
        model: the model.
        windows: the corpus.
        settings: what was asked for.
        heads: heads, or cells of interventions.
        chosen: the operator.
        phases: the plan's entry on estimation in two phases.
        filters: filters that choose tokens, if no others are computed; None where all are.
    """
    asked, by_head = settings.computing, settings.statistics.components == "heads"
    share = exact_share(phases)
    effort = share if phases is None else min(1.0, share + _SURROGATE_COST)
    unit = windows_per_unit(model, heads, chosen.draws, windows, effort)
    room = plan_memory(model, windows.length, by_head, chosen.donors, len(heads), asked.memory, asked.batch, unit)
    size = room.windows
    first_batch = tokens_of(windows, np.arange(min(size, len(windows))), model)
    if settings.ablation.positions == "own":
        choice = Choice(OwnPositionEngine(runs=room.runs), "own-position, one position of each ablated run")
        return choice.engine, _facts(choice, True, room, unit)
    with finding("an engine, on the first windows"):
        tried = list(dict.fromkeys(_site_near(model, cell) for cell in heads))
        passes = max(1, round(share * len(windows))) * chosen.draws
        length = first_batch.shape[1]
        blocks = passes * sum(model.anatomy.layers - site.port.layer for site in tried)
        positions = 1.0 if filters is None else positions_needed(filters, length)
        batch = None if phases is None else min(size, max(1, _EXACT_POSITIONS // length))
        work = RunSize(blocks, passes * (length - 1), positions, batch)
        choice = chosen_engine(asked.engine, asked.precision, model, first_batch, tried, work)
    engine = choice.engine
    if isinstance(engine, DeltaEngine) and engine.runs is None:
        engine.runs = room.runs
    return engine, _facts(choice, isinstance(asked.engine, str) or engine_made_by_name(engine), room, unit)


def positions_needed(filters: Sequence[Filter], length: int) -> float:
    """Share of windows' positions up to the last token that filters choose, about: tokens are taken to lie anywhere.

    Args:
        filters: filters that choose tokens.
        length: positions of a window.
    """
    tokens = _MARGIN * length * sum(filter_.fraction for filter_ in widest(filters))
    return min(1.0, _UNEVEN * (1 + math.expm1(-tokens) / tokens))


def _facts(choice: Choice, by_name: bool, room: MemoryPlan, unit: int) -> EngineFacts:
    """The plan's entries on an engine and on sizes of batches and units."""
    batch = choice.engine.batch if isinstance(choice.engine, DeltaEngine) else None
    return {
        "engine": choice.engine.name,
        "engine_settings": choice.engine.settings,
        "engine_reason": choice.reason,
        "engine_exact": is_exact(choice.engine),
        "engine_by_name": by_name,
        "memory_predicted": room.predicted,
        "windows_per_batch": room.windows,
        "windows_per_exact_batch": min(batch or room.windows, room.windows),
        "runs_held": room.runs,
        "windows_per_unit": room.windows * max(1, unit // room.windows),
    }


def _site_near(model: LanguageModel, cell: Head) -> Site:
    """A head, or a mixer of a model without heads, to try engines on: in the cell's layer or in the nearest one that
    has any."""
    sites = usual_sites(model.anatomy)
    row = sites[min(sites, key=lambda layer: abs(layer - cell.layer))]
    return row[min(cell.head, len(row) - 1)]


def chosen_engine(
    engine: str | Engine,
    precision: str | None,
    model: LanguageModel,
    tokens: Tensor,
    sites: Sequence[Site],
    work: RunSize,
) -> Choice:
    """The engine that was asked for, or the one that is best, with all its settings.

    Args:
        engine: `auto`, a name, or an engine.
        precision: precision of the delta engine's products; None to choose.
        model: the model.
        tokens: the first full batch of windows.
        sites: heads or mixers to try engines on.
        work: what the run is going to do.
    """
    if precision is not None and precision not in PRECISIONS:
        raise SelfRepairError(f"No precision is called '{precision}'.", f"There are: {', '.join(PRECISIONS)}.")
    with model.running():
        if engine == "delta" or (engine == "auto" and precision is not None):
            return delta(model, tokens, sites, work, precision)
        if engine == "auto":
            return choose(model, tokens, sites, work)
        used = engine_named(engine) if isinstance(engine, str) else engine
        if isinstance(used, DeltaEngine):
            require_right(model, tokens, sites)
        if isinstance(used, ReplayEngine) and used.fold is None:
            used.fold = used.probe(model, clean_run(model, tokens))
        return Choice(used, f"{used.name}, as asked for")
