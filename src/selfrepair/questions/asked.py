"""Questions to a model in one call each: the public way in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.name_lists import Given
from selfrepair.ablation.names import parse_names, parse_units
from selfrepair.ablation.operators import Operator
from selfrepair.circuits.circuit import Circuit
from selfrepair.engine.contract import Engine
from selfrepair.model.language_model import LanguageModel
from selfrepair.prompts.prompts import Prompts
from selfrepair.questions.ablated import AblatedRuns, ablated_runs, summary
from selfrepair.questions.circuit.audit import CircuitAudit
from selfrepair.questions.circuit.audit import audit as audited
from selfrepair.questions.covering.who import Covering
from selfrepair.questions.covering.who import who as covering_of
from selfrepair.questions.graph import EdgeGraph, edge_graph
from selfrepair.questions.importance import ImportanceCard, importance_card
from selfrepair.questions.interplay.interplay import Interplay, interplay
from selfrepair.questions.interplay.recruitment import Recruitment, recruitment
from selfrepair.questions.page.write_audit import write_audit_page
from selfrepair.questions.question import Question
from selfrepair.questions.question_settings import AuditSettings


class Asked(TypedDict, total=False):
    """Keywords of the functions below; `selfrepair.questions.question_settings.AuditSettings` says what each does."""

    ablation: str | Operator | None
    metric: str
    exact: bool
    donors: int
    seed: int
    top: int
    controls: int
    rate: float
    least_share: float
    operators: tuple[str, ...] | None
    engine: Engine | None
    progress: bool


def who(
    model: LanguageModel, prompts: Prompts, components: Given, given: Given | None = None, **settings: Unpack[Asked]
) -> Covering:
    """Who covers for some components when they are ablated together.

    Example:
        >>> found = who(model, prompts, "L0H1", ablation="zero", controls=2)
        >>> found.base.name, sorted(found.table.columns)[:3]
        ('L0H1', ['ablated_direct_effect', 'alone', 'anti_erasure'])
        >>> bool(found.effects.residual < 1e-4)
        True

    Args:
        model: the model.
        prompts: with their answers.
        components: what is ablated, in any spelling: `"9.9+9.6"`, `[Head(9, 9), Mlp(5)]`.
        given: what is ablated besides, before and after.
        settings: see `Asked`.

    Raises:
        SelfRepairError: names of nothing, components that the model does not have, or an ablation that the prompts do
            not allow.
    """
    besides = () if given is None else parse_names(given, model)
    return covering_of(_question(model, prompts, settings), parse_names(components, model), besides)


def ablate(
    model: LanguageModel,
    prompts: Prompts,
    interventions: Given | list[Intervention],
    freeze: Given | None = None,
    **settings: Unpack[Asked],
) -> AblatedRuns:
    """Ablates components on prompts: what each prompt's answer lost, and who made up for it.

    Example:
        >>> runs = ablate(model, prompts, "L0H1, L0H0+L1H1, L1.mlp", ablation="zero")
        >>> list(runs.table["name"])
        ['L0H1', 'L0H0+L1H1', 'L1.mlp']
        >>> runs.effects.total_effect.shape  # [run, prompt]
        (3, 2)

    Args:
        model: the model.
        prompts: with their answers.
        interventions: ablated runs by commas, what is ablated together by `+`; or `Intervention` objects.
        freeze: components held at their clean output in every run.
        settings: see `Asked`.

    Raises:
        SelfRepairError: as for `who`.
    """
    question = _question(model, prompts, settings)
    if isinstance(interventions, list) and all(isinstance(one, Intervention) for one in interventions):
        runs = [one for one in interventions if isinstance(one, Intervention)]
    else:
        frozen = () if freeze is None else parse_names(freeze, model)
        runs = ablated_runs(parse_units(interventions, model), frozen)  # type: ignore[arg-type]
    effects = question.measure(runs)
    return AblatedRuns(summary(question, effects), effects)


def card(model: LanguageModel, prompts: Prompts, components: Given, **settings: Unpack[Asked]) -> ImportanceCard:
    """Importance of single components, masked by self-repair and unmasked.

    Example:
        >>> list(card(model, prompts, "L0H0, L0H1", ablation="zero").table["component"])
        ['L0H0', 'L0H1']

    Args:
        model: the model.
        prompts: with their answers.
        components: in any spelling.
        settings: see `Asked`.

    Raises:
        SelfRepairError: as for `who`.
    """
    return importance_card(_question(model, prompts, settings), parse_names(components, model))


def interact(
    model: LanguageModel,
    prompts: Prompts,
    components: Given,
    orders: Sequence[str] | None = None,
    shapley: bool | None = None,
    **settings: Unpack[Asked],
) -> Interplay:
    """Do some components do more together than apart? Interactions, Shapley values and knock-out curves.

    Example:
        >>> found = interact(model, prompts, "L0H0, L0H1, mlps=L0.mlp,L1.mlp", ablation="zero")
        >>> len(found.pairs), list(found.shapley["component"])
        (3, ['L0H0', 'L0H1', 'mlps'])
        >>> found.curves["order"].unique().tolist()
        ['own effect', 'direct effect', 'line', 'conditional', 'random']

    Args:
        model: the model.
        prompts: with their answers.
        components: two or more, or sets by name, in any spelling.
        orders: of knock-out curves: `own effect`, `direct effect`, `line`, `conditional`, `random`; by default those
            that are cheap.
        shapley: whether Shapley values are computed, which takes `2^n` runs; by default up to six sets.
        settings: see `Asked`.

    Raises:
        SelfRepairError: as for `who`; fewer than two sets, sets that share a site, or more than ten for Shapley values.
    """
    return interplay(_question(model, prompts, settings), parse_units(components, model), orders, values=shapley)


def recruit(
    model: LanguageModel, prompts: Prompts, components: Given, by: Given | None = None, **settings: Unpack[Asked]
) -> Recruitment:
    """Where some components happen to write less on intact runs, do later components write more?

    Example:
        >>> several = Prompts.of([Prompt(f"The {word} writes a ", ("w",)) for word in ("one", "two", "six")], model)
        >>> found = recruit(model, several, "L0H1", by="L1H0, L1.mlp", ablation="zero")
        >>> sorted(found.table["component"])
        ['L1.mlp', 'L1H0']

    Args:
        model: the model.
        prompts: with their answers; several of each group.
        components: whole heads and MLPs, whose direct effects are added.
        by: which later heads and MLPs; all of them by default.
        settings: see `Asked`.

    Raises:
        SelfRepairError: as for `who`; or too few prompts per group, or nothing that varies within groups.
    """
    later = () if by is None else parse_names(by, model)
    return recruitment(_question(model, prompts, settings), parse_names(components, model), later)


def audit(model: LanguageModel, prompts: Prompts, circuit: Circuit | Given, **settings: Unpack[Asked]) -> CircuitAudit:
    """Is a circuit needed, is it enough, who covers for it, what does it miss, and what does it not need?

    Example:
        >>> found = audit(model, prompts, "movers=L0H0,L0H1", ablation="zero", operators=(), controls=2)
        >>> found.verdict.word in ("covered", "complete", "undecided", "unstable", "wrong sign", "not measurable")
        True

    Args:
        model: the model.
        prompts: with their answers.
        circuit: a `Circuit`, or names with roles or without.
        settings: see `Asked`.

    Raises:
        SelfRepairError: as for `who`.
    """
    tested = circuit if isinstance(circuit, Circuit) else Circuit(circuit)
    return audited(_question(model, prompts, settings), tested.checked(model).roles)


def graph(model: LanguageModel, prompts: Prompts, senders: Given, **settings: Unpack[Asked]) -> EdgeGraph:
    """Who responds to each of some components, directly or by way of others?

    Example:
        >>> edges = graph(model, prompts, "L0H1, L0.mlp", ablation="zero")
        >>> list(edges.table().columns[:4])
        ['source', 'target', 'via', 'total']

    Args:
        model: the model.
        prompts: with their answers.
        senders: heads and whole MLPs in any spelling, each ablated by itself.
        settings: see `Asked`.

    Raises:
        SelfRepairError: as for `who`; neurons, or another metric than the logit difference.
    """
    return edge_graph(_question(model, prompts, settings), parse_names(senders, model))


def write_audit(
    model: LanguageModel,
    prompts: Prompts,
    circuit: Circuit | Given,
    out: str | Path,
    edges: bool = False,
    **settings: Unpack[Asked],
) -> CircuitAudit:
    """Audits a circuit as `audit` does, and writes what was found as one self-contained HTML page.

    Example:
        >>> found = write_audit(model, prompts, "L0H0", "audit.html", ablation="zero", operators=(), controls=2)
        >>> len(found.members)
        1

    Args:
        model: the model.
        prompts: with their answers.
        circuit: a `Circuit`, or names with roles or without.
        out: the HTML file; replaced if it exists.
        edges: whether edges of single members and repairers are measured for the page, too.
        settings: see `Asked`.

    Raises:
        SelfRepairError: as for `who`; or the file cannot be written.
    """
    question = _question(model, prompts, settings)
    tested = circuit if isinstance(circuit, Circuit) else Circuit(circuit)
    found = audited(question, tested.checked(model).roles)
    write_audit_page(question, found, out, question.floor(found.runs.circuit), edges)
    return found


def _question(model: LanguageModel, prompts: Prompts, settings: Asked) -> Question:
    shown = settings.get("progress", False)
    known = {name: value for name, value in settings.items() if name != "progress"}
    return Question(model, prompts, AuditSettings(**known), shown)  # type: ignore[arg-type]
