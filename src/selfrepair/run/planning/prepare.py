"""Prepares a job from settings: checks, donors, batch sizes, and the frozen plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np

from selfrepair.ablation.interventions import Intervention, by_start
from selfrepair.ablation.name_lists import Spelled
from selfrepair.ablation.names import existing_heads, named_heads
from selfrepair.ablation.operators import operator, require_operator
from selfrepair.ablation.sites import Head, Site, all_heads, all_mixers
from selfrepair.engine import Engine, engine_named
from selfrepair.engine.accounts import require_sites
from selfrepair.engine.clean import clean_run
from selfrepair.engine.own_position.single_positions import require_own_positions
from selfrepair.engine.surrogates import Surrogates
from selfrepair.errors import SelfRepairError
from selfrepair.model.configuration import setting
from selfrepair.model.faults import finding
from selfrepair.model.language_model import LanguageModel
from selfrepair.results.plan import BudgetFacts, EngineFacts, Plan, UntilFacts
from selfrepair.run.planning import run_plan
from selfrepair.run.planning.batch_size import (
    require_known_tokens,
    tokens_of,
)
from selfrepair.run.planning.effort_settings import STOPS
from selfrepair.run.planning.job import Job
from selfrepair.run.planning.phases import planned_phases, require_positions
from selfrepair.run.planning.plan_limits import MOST_REPLICATES, MOST_SEED, require_sane
from selfrepair.run.planning.planned_engine import planned_engine
from selfrepair.run.planning.run_plan import filters_of
from selfrepair.run.planning.settings import Settings, Statistics
from selfrepair.statistics.estimators import all_estimators
from selfrepair.statistics.stopping import StopRule
from selfrepair.text import Windows


class Decided(NamedTuple):
    """What a pilot decided: the engine, the plan's entries on it, and why there are so many windows."""

    engine: Engine
    facts: EngineFacts
    budget: BudgetFacts


def prepare(
    model: LanguageModel,
    windows: Windows,
    settings: Settings,
    interventions: Sequence[Intervention | Site] | None = None,
    decided: Decided | None = None,
) -> Job:
    """Makes the plan of a run.

    Args:
        model: the model.
        windows: the corpus.
        settings: what was asked for.
        interventions: what to ablate where it is not single heads; the mixers of a model without heads by default.
        decided: what a pilot found; by default the engine is chosen here.

    Raises:
        SelfRepairError: no donors, no scored tokens, unknown heads, filters, operator or engine.
    """
    ablation, statistics, computing = settings.ablation, settings.statistics, settings.computing
    asked = ablation.ablation
    chosen = operator(asked, ablation.donors) if isinstance(asked, str) else require_operator(asked)
    if isinstance(computing.engine, str) and computing.engine != "auto":
        engine_named(computing.engine)  # refuses unknown names before anything takes time
    filters = filters_of(settings)  # refuses what is none
    all_estimators()  # as here: what another package offers fails now, not after the sweep
    heads = all_heads(model.anatomy) if ablation.heads is None else _checked_heads(model, ablation.heads)
    sets = None
    if interventions is None and ablation.heads is None and not heads:
        interventions = all_mixers(model.anatomy)
    if interventions is not None:
        if ablation.heads is not None:
            raise SelfRepairError("Both heads and interventions were given.", "Give one of them.")
        sets = checked_interventions(model, windows, interventions)
        heads = result_cells(sets)
        if (single := single_heads(sets)) is not None:
            sets, heads = None, single
    _require_counts(statistics, computing.batch)
    first = windows.first_scored(statistics.first)
    stop = stopping(settings.stopping.until_se, settings.stopping.until)
    own = require_positions(settings, of_heads=sets is None)
    surrogates, phases = planned_phases(settings, windows, filters, of_heads=sets is None)
    _require_readable(model, windows, first)
    if not windows.scored(first).any():
        raise SelfRepairError("There are no scored tokens.", "Give more text, or longer windows.")
    drawn = chosen.draw_donors(windows, statistics.seed)
    alone = filters if sets is None and all(filter_.chooses for filter_ in filters) else None
    engine, facts = (decided or planned_engine(model, windows, settings, heads, chosen, phases, alone))[:2]
    _require_estimable(model, windows, facts, own, surrogates)
    subject = run_plan.subject_of(model, windows, first)
    plan = run_plan.make_plan(subject, chosen, heads, drawn, settings, stop, facts, model.device, sets, phases)
    if decided is not None:
        plan = cast(Plan, {**plan, "budget": decided.budget})
    require_sane(plan, "Ask for less.")
    return Job(plan, windows, drawn, model, chosen, engine, surrogates)


def _require_counts(statistics: Statistics, batch: int | None) -> None:
    """Refuses numbers that make no sense."""
    if batch is not None and batch < 1:
        raise SelfRepairError(f"A batch needs at least one window, got {batch}.", "Leave it out to have it chosen.")
    first, sample, replicates, seed = statistics.first, statistics.sample, statistics.replicates, statistics.seed
    if first < 0 or sample < 0 or not 2 <= replicates <= MOST_REPLICATES:
        raise SelfRepairError(
            f"first = {first} and sample = {sample} must not be negative, "
            f"replicates = {replicates} at least 2 and at most {MOST_REPLICATES:,}."
        )
    if not 0 <= seed <= MOST_SEED:
        raise SelfRepairError(f"seed = {seed}; a number from 0 to {MOST_SEED:,} was expected.", "0 is usual.")


def _require_estimable(
    model: LanguageModel, windows: Windows, facts: EngineFacts, own: bool, surrogates: Surrogates
) -> None:
    """Refuses models on which single positions cannot be ablated, or that a surrogate does not work on."""
    if not own and not surrogates.chosen:
        return
    size = min(facts["windows_per_batch"], len(windows))
    with finding("cheap estimates, on the first windows"), model.running():
        clean = clean_run(model, tokens_of(windows, np.arange(size), model))
        if own:
            require_own_positions(model, clean)
        for surrogate in surrogates.chosen:
            surrogate.require(model, clean)


def checked_interventions(
    model: LanguageModel, windows: Windows, given: Sequence[Intervention | Site]
) -> list[Intervention]:
    """Interventions in the order of the layers in which they start, the last layer first; a site alone is one.

    Raises:
        SelfRepairError: none, one that replaces nothing, two of one name, or a site that the model does not have.
    """
    asked = [item if isinstance(item, Intervention) else Intervention((item,)) for item in given]
    idle = next((intervention for intervention in asked if intervention.start is None), None)
    if idle is not None or not asked:
        problem = f"'{idle}' replaces nothing" if idle is not None else "there are none"
        raise SelfRepairError(f"Interventions have to replace something; {problem}.", "Give the sites to ablate.")
    names = [intervention.name for intervention in asked]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SelfRepairError(f"Two interventions are called '{twice}'.", "Give each a name of its own.")
    require_sites(model, windows.length, asked)
    return [intervention for _, group in by_start(asked) for intervention in group]


def result_cells(interventions: Sequence[Intervention]) -> list[Head]:
    """Where results keep interventions: the layer in which each starts, and its place among those that start there."""
    return [Head(start, index) for start, group in by_start(interventions) for index in range(len(group))]


def single_heads(interventions: Sequence[Intervention]) -> list[Head] | None:
    """The heads, if each intervention is one head under its own name: a run of heads, however it was asked for."""
    heads = [site for intervention in interventions for site in intervention.replaced if isinstance(site, Head)]
    named = [(intervention.kind, intervention.name) for intervention in interventions]
    if named != [("head", str(head)) for head in heads]:
        return None
    return _in_order(heads)


def stopping(until_se: float | None, until: str) -> UntilFacts | None:
    """When to stop early, as the plan has it; None for a run that goes on to its end.

    Raises:
        SelfRepairError: an error that is not above 0, or of something unknown.
    """
    if until not in STOPS:
        raise SelfRepairError(f"Cannot run until an error of '{until}'.", f"Give one of: {', '.join(STOPS)}.")
    if until_se is None:
        if until != STOPS[0]:
            raise SelfRepairError(
                f"until = '{until}' says what a standard error is of, but none was given to stop at.",
                "Give one, such as --until-se 0.01.",
            )
        return None
    return {"standard_error": StopRule(until_se, planned=1).target, "of": until}


def _require_readable(model: LanguageModel, windows: Windows, first: int) -> None:
    """Refuses windows that the model has no positions for, or ids that it cannot read or predict."""
    positions = setting(model.network, "max_position_embeddings")
    if isinstance(positions, int) and 0 < positions < windows.length:
        raise SelfRepairError(
            f"Windows have {windows.length} positions; the model reads at most {positions}.",
            f"Take shorter windows: --length {positions} or less.",
        )
    require_known_tokens(windows.tokens, model)
    _require_logits(model, windows, first)


def _require_logits(model: LanguageModel, windows: Windows, first: int) -> None:
    """Refuses texts whose next tokens the model never predicts."""
    masked = model.anatomy.unembedding.masked
    if masked is None:
        return
    targets = np.unique(windows.tokens[:, 1:][windows.scored(first)])
    absent = targets[masked.cpu().numpy()[targets]]
    if len(absent):
        raise SelfRepairError(
            f"The text holds the token id {absent[0]}, one of the {int(masked.sum())} masked rows of the unembedding: "
            "the model gives it no logit, so no effect on it can be measured.",
            "Leave such tokens out of the text (special tokens written out, say), or take the tokenizer that came with "
            "the model.",
        )


def _checked_heads(model: LanguageModel, given: Spelled) -> list[Head]:
    pairs = existing_heads(named_heads(given), [block.heads for block in model.anatomy.blocks])
    return _in_order([Head(*pair) for pair in pairs])


def _in_order(heads: list[Head]) -> list[Head]:
    """Last layer first, as `all_heads` has them."""
    return sorted(heads, key=lambda head: (-head.layer, head.head))
