"""Answers for programs: plain dictionaries, the same numbers as the tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from selfrepair.questions.circuit.audit import CircuitAudit
from selfrepair.questions.circuit.circuit_verdict import RULE
from selfrepair.questions.covering.who import Covering
from selfrepair.questions.importance import ImportanceCard
from selfrepair.questions.interplay.interplay import Interplay
from selfrepair.questions.interplay.recruitment import Recruitment
from selfrepair.questions.measuring.metrics import metric_named
from selfrepair.questions.measuring.prompt_effects import PromptEffects
from selfrepair.questions.question import Question
from selfrepair.statistics.estimates import Estimate

Record = dict[str, Any]


def about(question: Question, effects: PromptEffects, floor: float | None) -> Record:
    """What every number of an answer is."""
    prompts, sampling = question.prompts, question.sampling
    return {
        "model": {"name": getattr(question.model, "name", None), "sha256": question.model.digest},
        "metric": question.settings.metric,
        "exact": question.settings.exact,
        "units": metric_named(question.settings.metric).units,
        "ablation": effects.operator,
        "prompts": {"number": len(prompts), "groups": len(set(prompts.groups)), "dropped": len(prompts.dropped)},
        "prompts_sha256": prompts.fingerprint,
        "provenance": prompts.provenance,
        "intervals": sampling.in_words,
        "seed": question.settings.seed,
        "ledger_residual": effects.residual,
        "numerical_floor": floor,
    }


def covering_record(question: Question, found: Covering, floor: float | None) -> Record:
    """Of `who`."""
    return about(question, found.effects, floor) | {
        "ablated": [str(site) for site in found.base.replaced],
        "given": [] if found.given is None else [str(site) for site in found.given.replaced],
        **{name: numbers(found.total(name)) for name in ("lost", "total_effect", "self_repair", "norm")},
        "repaired_share": numbers(found.repaired_share),
        "motifs": {name: numbers(one) for name, one in found.motif_sums().items()},
        "components": rows(found.table),
        "controls": [str(site) for site in found.controls],
    }


def card_record(question: Question, found: ImportanceCard, floor: float | None) -> Record:
    """Of `card`."""
    return about(question, found.effects, floor) | {"components": rows(found.table)}


def audit_record(question: Question, found: CircuitAudit, floor: float | None) -> Record:
    """Of `audit`."""
    covering = covering_record(question, found.covering, floor)
    return covering | {
        "roles": {role: [str(site) for site in sites] for role, sites in found.runs.roles.items()},
        "necessity": numbers(found.faithfulness.necessity),
        "faithfulness": numbers(found.faithfulness.faithfulness),
        "against": rows(found.faithfulness.against),
        "missing": rows(found.missing),
        "missing_together": None
        if found.together is None
        else {
            "recovered": numbers(found.together.recovered),
            "share": numbers(found.together.share),
            "controls": list(found.together.controls),
            "p": found.together.p,
        },
        "selection": found.halves.in_words,
        "stability": found.stability,
        "members": rows(found.members),
        "completion": rows(found.completion),
        "ablations": rows(found.operators.table),
        "kendall": dict(found.operators.kendall),
        "depends_on_ablation": found.operators.depends,
        "verdict": {"word": found.verdict.word, "reason": found.verdict.reason, "rule": RULE},
    }


def ablated_record(question: Question, effects: PromptEffects, table: pd.DataFrame, floor: float | None) -> Record:
    """Of `ablate`."""
    return about(question, effects, floor) | {"runs": rows(table)}


def interplay_record(question: Question, found: Interplay, floor: float | None) -> Record:
    """Of `interact`."""
    return about(question, found.effects, floor) | {
        "pairs": rows(found.pairs),
        "shapley": None if found.shapley is None else rows(found.shapley),
        "curves": rows(found.curves),
        "random_orders": found.draws,
    }


def recruitment_record(question: Question, found: Recruitment, floor: float | None) -> Record:
    """Of `recruit`."""
    return about(question, found.effects, floor) | {
        "sites": [str(site) for site in found.effects.interventions[0].replaced],
        "spread_within_groups": found.spread,
        "used": {"prompts": found.prompts, "groups": found.groups, "items": found.items},
        "recruitment_intervals": found.sampling.in_words,
        "notes": list(found.notes),
        "components": rows(found.table),
    }


def numbers(estimate: Estimate) -> Record:
    """A number with its error and ends; None for what is not known or unbounded."""
    parts = {"value": estimate.value, "se": estimate.standard_error, "low": estimate.low, "high": estimate.high}
    return {name: _finite(float(value)) for name, value in parts.items()}


def rows(table: pd.DataFrame) -> list[Record]:
    """A table's rows; None for what is not known or unbounded."""
    return [
        {str(name): _finite(value) if isinstance(value, float) else value for name, value in row.items()}
        for row in table.to_dict("records")
    ]


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
