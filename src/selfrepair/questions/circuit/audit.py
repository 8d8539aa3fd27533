"""The audit of a circuit: is it needed, is it enough, who covers for it, what does it miss, what does it not need?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from selfrepair.ablation.sites import Site
from selfrepair.questions.circuit.ablation_table import OperatorTable, operator_table, possible
from selfrepair.questions.circuit.circuit_runs import CircuitRuns
from selfrepair.questions.circuit.circuit_verdict import Verdict, no_direction, verdict
from selfrepair.questions.circuit.completion import completion_curve, completion_runs
from selfrepair.questions.circuit.faithfulness import Faithfulness, faithfulness
from selfrepair.questions.circuit.missing import Halves, confirmed, selected, stability
from selfrepair.questions.circuit.superfluous import members
from selfrepair.questions.circuit.together import Together, frozen_together
from selfrepair.questions.covering.who import Covering, covering
from selfrepair.questions.measuring.components import lies_in
from selfrepair.questions.measuring.metrics import metric_named
from selfrepair.questions.measuring.prompt_effects import PromptEffects, joined
from selfrepair.questions.measuring.sampling import Sampling
from selfrepair.questions.question import Question
from selfrepair.questions.question_settings import AuditSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class CircuitAudit:
    """What was found; shows itself in a notebook.

    Attributes:
        question: model, prompts and settings.
        runs: the circuit and its runs.
        covering: who covers for it.
        faithfulness: necessity, faithfulness, and who works against the answer.
        missing: components outside that cover, one row each: as `covering.table`, with `selected`, `confirmed`, and
            `stable` (share of resampled groups that select it).
        together: what freezing all that is missing takes away, beside control sets of like components; None for
            nothing.
        halves: on which prompts they were selected and confirmed.
        stability: mean Jaccard index of the selected over resampled groups.
        members: each member's effects, and whether it is superfluous.
        completion: the circuit with what it misses added.
        operators: the same under other ablations.
        verdict: what it comes to.
        effects: ledgers of all runs under the main ablation.
    """

    question: Question
    runs: CircuitRuns
    covering: Covering
    faithfulness: Faithfulness
    missing: pd.DataFrame
    together: Together | None
    halves: Halves
    stability: float
    members: pd.DataFrame
    completion: pd.DataFrame
    operators: OperatorTable
    verdict: Verdict
    effects: PromptEffects

    @property
    def superfluous(self) -> pd.DataFrame:
        """Members whose effects may all be zero."""
        return self.members[self.members["superfluous"]].reset_index(drop=True)

    @property
    def completed(self) -> dict[str, tuple[Site, ...]]:
        """The circuit's roles, and what it misses as the role `missing`."""
        names = list(self.missing["component"])
        more = tuple(site for site in self.covering.components.sites if str(site) in names)
        return {**self.runs.roles, **({"missing": more} if more else {})}

    def plot_balance(self, path: str | Path | None = None) -> Figure:
        """The waterfall from what the circuit wrote to its total effect: who made up for what.

        Args:
            path: also save it there, 200 dots per inch.

        Raises:
            SelfRepairError: matplotlib is missing, or the file cannot be written.
        """
        from selfrepair.questions.page.audit_notebook import balance_figure

        return balance_figure(self, path)

    def __repr__(self) -> str:
        members = ", ".join(map(str, self.runs.members))
        return f"CircuitAudit({members}: {self.verdict.word}, {self.verdict.reason})"

    def _repr_html_(self) -> str:
        from selfrepair.questions.page.audit_notebook import notebook_html

        return notebook_html(self)


def audit(question: Question, roles: Mapping[str, Sequence[Site]]) -> CircuitAudit:
    """Audits a circuit on some prompts.

    Args:
        question: model, prompts and settings.
        roles: the circuit: sites by role.

    Raises:
        SelfRepairError: an empty circuit, or sites that the model does not have.
    """
    settings, sampling = question.settings, question.sampling
    runs = CircuitRuns(question.components, {role: tuple(sites) for role, sites in roles.items()})
    first = question.measure(runs.first_look(), "Ablating the circuit and its parts")
    halves = Halves.of(question.prompts, settings.seed)
    screened = _screen(first, runs, halves, settings)
    found = covering(question, first, runs.circuit, None, screened.sites)
    missing = _missing(found, screened)
    added = [site for site in screened.sites if str(site) in set(missing["component"])]
    effects, together = found.effects, None
    if added:
        effects = joined(effects, question.measure(completion_runs(runs, added), "Adding what it misses"))
        together, frozen = frozen_together(question, found, added)
        effects = joined(effects, frozen)
    operators = _operators(question, effects, runs)
    faith = faithfulness(effects, runs, sampling)
    total = found.total("total_effect")
    word = (
        no_direction()
        if not metric_named(settings.metric).directed
        else verdict(
            *(found.total("lost"), faith.span, total, found.repaired_share),
            list(missing["component"]),
            operators.depends,
            screened.stability,
        )
    )
    return CircuitAudit(
        question=question,
        runs=runs,
        covering=found,
        faithfulness=faith,
        missing=missing,
        together=together,
        halves=halves,
        stability=screened.stability,
        members=members(effects, runs, sampling),
        completion=completion_curve(effects, runs, added, sampling),
        operators=operators,
        verdict=word,
        effects=effects,
    )


@dataclass(frozen=True, eq=False)
class _Screened:
    """Components outside the circuit whose lines were selected, the largest first; and how sure that list is."""

    sites: list[Site]
    confirmed: dict[str, bool]
    stable: pd.Series
    stability: float


def _screen(first: PromptEffects, runs: CircuitRuns, halves: Halves, settings: AuditSettings) -> _Screened:
    """Selects by lines on one half of the prompts, and confirms on the other."""
    components, row = runs.components, first.row(runs.circuit.name)
    outside = [site for site in components.downstream(runs.circuit) if not lies_in(site, runs.members)]
    lines = components.lines(first, row)[:, [components.index[site] for site in outside]]
    lost, whole = first.lost[row], Sampling.of(first.prompts)
    rules = settings.rate, settings.least_share
    sign = -1 if float(whole.mean(lost).value) < 0 else 1
    on = halves.select
    chosen = np.flatnonzero(selected(lines[on], lost[on], Sampling.of(first.prompts.select(on)), sign, *rules))
    order = chosen[np.argsort(-(sign * lines[on][:, chosen]).mean(0), kind="stable")]
    tested = halves.confirm
    sure = confirmed(lines[tested][:, order], Sampling.of(first.prompts.select(tested)), sign, settings.rate)
    names = [str(site) for site in outside]
    index, shares = stability(lines, lost, whole, sign, rules, names, seed=settings.seed)
    return _Screened(
        [outside[place] for place in order],
        {names[place]: bool(one) for place, one in zip(order, sure, strict=True)},
        shares,
        index,
    )


def _missing(found: Covering, screened: _Screened) -> pd.DataFrame:
    """What was selected, confirmed, and loses more repair by freezing than controls do."""
    table = found.table[found.table["component"].isin(list(screened.confirmed))].reset_index(drop=True)
    table["confirmed"] = [screened.confirmed[name] for name in table["component"]]
    table["stable"] = [float(screened.stable[name]) for name in table["component"]]
    beats = table["freeze"] > table["control_high"].fillna(0)
    return table[table["confirmed"] & beats].reset_index(drop=True)


def _operators(question: Question, effects: PromptEffects, runs: CircuitRuns) -> OperatorTable:
    """The circuit's own run under every ablation, the audit's first."""
    asked, by_operator = question.settings.operators, {effects.operator: effects}
    for name in possible(question.prompts) if asked is None else asked:
        if name not in by_operator:
            by_operator[name] = question.measure([runs.circuit], f"Under {name} ablation", name)
    return operator_table(by_operator, runs, question.sampling)
