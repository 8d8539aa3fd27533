"""What the page shows beside the audit itself: tokens and answers as text, and edges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from selfrepair.ablation.sites import Site
from selfrepair.errors import SelfRepairError
from selfrepair.prompts.prompts import Prompts
from selfrepair.questions.circuit.audit import CircuitAudit
from selfrepair.questions.graph import EdgeGraph, edge_graph
from selfrepair.questions.measuring.batches import LOGIT_DIFFERENCE
from selfrepair.questions.paths.direct_edges import DirectEdges, direct_edges
from selfrepair.questions.paths.source_places import token_texts
from selfrepair.questions.question import Question

REPAIRERS = 3  # whose attention and edges are shown
SENDERS = 8  # members whose edges are measured one by one
Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class PageExtras:
    """What was measured for the page alone.

    Attributes:
        tokens: every prompt's tokens as text.
        answers: every prompt's right answers as text.
        wrong: its wrong ones.
        direct: lines of the whole circuit's run, and their direct part; None where they cannot be measured.
        graph: edges from single members and from what covers, where they were asked for.
        notes: what is not there, and why.
        floor: the numerical floor, in units of the metric; None where it was not measured.
    """

    tokens: tuple[tuple[str, ...], ...]
    answers: tuple[str, ...]
    wrong: tuple[str, ...]
    direct: DirectEdges | None = None
    graph: EdgeGraph | None = None
    notes: tuple[str, ...] = ()
    floor: float | None = None


def extras(question: Question, found: CircuitAudit, floor: float | None = None, edges: bool = False) -> PageExtras:
    """Measures them, in three passes over the prompts; in four more for each sender where edges are asked for.

    Args:
        question: model, prompts and settings.
        found: the audit.
        floor: the numerical floor, where it has been measured.
        edges: whether edges are measured from single members (eight at most) and repairers (three).
    """
    texts = unmeasured(question.prompts, question.model.tokenizer)
    notes = [found.covering.note] if found.covering.note else []
    if question.settings.metric != LOGIT_DIFFERENCE:
        notes.append("Direct edges are measured for the logit difference alone.")
        return replace(texts, notes=tuple(notes), floor=floor)
    settings, base = question.settings, found.runs.circuit

    def direct() -> DirectEdges:
        how = (question.model, question.prompts, base, settings.ablation)
        return direct_edges(*how, donors=settings.donors, seed=settings.seed)

    return replace(
        texts,
        direct=_tried(direct, "Direct edges of the circuit", notes),
        graph=_tried(lambda: edge_graph(question, senders_of(found)), "Edges of components", notes) if edges else None,
        notes=tuple(notes),
        floor=floor,
    )


def unmeasured(prompts: Prompts, tokenizer: object) -> PageExtras:
    """The texts alone, for an audit whose model is not at hand."""
    right, wrong = (answer_texts(tokenizer, side) for side in (prompts.answers, prompts.wrong))
    return PageExtras(token_texts(tokenizer, prompts), right, wrong)


def shown_repairers(found: CircuitAudit, most: int) -> list[Site]:
    """The components with the largest lines that repair, those that the circuit misses first."""
    table = found.covering.table
    names = [*found.missing["component"], *table[table["line"] > 0].sort_values("line", ascending=False)["component"]]
    sites = {str(site): site for site in found.covering.components.sites}
    return [sites[name] for name in dict.fromkeys(names)][:most]


def senders_of(found: CircuitAudit) -> list[Site]:
    """Members, the ones that wrote most first, and the strongest repairers."""
    wrote = dict(zip(found.members["component"], found.members["direct_effect"].abs(), strict=True))
    members = sorted(found.runs.members, key=lambda site: -wrote[str(site)])[:SENDERS]
    return [*members, *shown_repairers(found, REPAIRERS)]


def answer_texts(tokenizer: object, answers: tuple[tuple[int, ...], ...]) -> tuple[str, ...]:
    """Each prompt's answers in one text, in quotes, so that spaces in front are seen."""
    known: dict[int, str] = {}
    for token in {token for row in answers for token in row}:
        known[token] = str(token) if tokenizer is None else f"'{tokenizer.decode([token])}'"  # type: ignore[attr-defined]
    return tuple(" or ".join(known[token] for token in row) for row in answers)


def _tried(make: Callable[[], Made], what: str, notes: list[str]) -> Made | None:
    """What is made, or nothing and a note that says why."""
    try:
        return make()
    except SelfRepairError as refusal:
        notes.append(f"{what}: {refusal.problem}")
        return None
