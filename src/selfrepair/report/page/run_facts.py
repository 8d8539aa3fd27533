"""Facts about a run in words, for the page: where its numbers come from, their limits, how to repeat it."""

from __future__ import annotations

from shlex import quote
from typing import Any

import numpy as np

from selfrepair.report import captions
from selfrepair.report.number_formats import small
from selfrepair.results import checks
from selfrepair.results.runs import Run
from selfrepair.text.given_texts import GIVEN

_ONE_AT_A_TIME = (
    "Heads are ablated one at a time: what two heads do for each other when both are missing is not measured."
)
FEW_DOCUMENTS = 20  # below this, intervals over documents are rough


def facts(run: Run) -> list[list[str]]:
    """Label and value of everything that stands on the model's card."""
    facts = [
        ["model", captions.fact(run, "model")],
        ["text", captions.fact(run, "text")],
        ["operator", captions.operator_with_donors(run)],
        ["filters", ", ".join(run.filters)],
        ["estimated in two phases", captions.phases(run)],
        ["tokens", _grouped(run.interventions.attrs.get("tokens"))],
        ["documents", _grouped(run.interventions.attrs.get("documents"))],
        ["positions", captions.positions_left_out(run)],
        ["vocabulary", captions.centring_note(run)],
        ["engine", captions.fact(run, "engine")],
        ["weights", captions.fact(run, "precision")],
        ["loss", _number(run.interventions.attrs.get("loss_nats_per_token"), "nats per token")],
        ["numerical floor", _number(run.interventions.attrs.get("numerical_floor"), "logit")],
        [
            "measured error",
            _number(run.interventions.attrs.get("ledger_residual"), "logit, largest residual of any ledger"),
        ],
        ["engine's error per token", captions.engine_error(run)],
        [
            "read-out error",
            _number(run.interventions.attrs.get("readout_error"), "logit, against the model's own logits"),
        ],
        ["made with", captions.fact(run, "software")],
        ["made", captions.fact(run, "created")],
    ]
    return [[label, value] for label, value in facts if value not in ("unknown", "")]


def limits(run: Run) -> list[str]:
    """Limits of this run's numbers."""
    warnings = [captions.status_warning(run), *checks.warned(run.outcome)]
    documents = _whole(run.interventions.attrs.get("documents"))
    if documents is not None and documents < FEW_DOCUMENTS:
        warnings.append(
            f"Only {documents} documents: errors over documents are rough, and other texts may well behave otherwise."
        )
    if _whole(run.interventions.attrs.get("donors")) == 1:
        warnings.append("One donor per window: what a number owes to the donors that were drawn is part of its noise.")
    short = run.interventions.attrs.get("inexact_replicates", 0)
    if isinstance(short, float | int) and short > 0.005:
        warnings.append(
            f"For some heads too few tokens were kept to apply the filter exactly in up to {100 * short:.0f}% of the "
            "replicates; their intervals are a little too narrow."
        )
    measured = int((run.interventions["count"].isel(filter=0).values > 0).sum())
    if measured < run.heads_there_are:
        warnings.append(f"{measured} {captions.ablated(run)}s were ablated; nothing is known about the others.")
    warnings += [
        "A filter by direct effect chooses tokens for which a head looks important; tokens chosen by another rule, and "
        "all tokens together, can show less repair or none.",
        *([_ONE_AT_A_TIME] if run.of_heads else []),
        f"Another operator than {captions.fact(run, 'operator')} asks another question, and has other answers.",
    ]
    return [warning for warning in warnings if warning]


def command(run: Run) -> str:
    """The command that repeats the run; with a remark if the command line cannot."""
    plan = run.plan
    if not run.of_heads:
        return ""  # other interventions are asked for in Python
    model, text, ablation = (plan.get(name) for name in ("model", "text", "ablation"))
    if not (isinstance(model, dict) and isinstance(text, dict) and isinstance(ablation, dict)):
        return ""
    source = model.get("source")
    phases: dict[str, Any] = dict(plan.get("phases") or {})
    named = source["model"] if isinstance(source, dict) else f"<the object that was called {model['name']}>"
    options: dict[str, Any] = {
        "--text": "<the texts that were given in Python>" if text.get("source") == GIVEN else text.get("source"),
        "--tokens": text.get("tokens"),
        "--length": text.get("length"),
        "--packing": text.get("packing"),
        "--bos": text.get("bos"),
        "--field": text.get("field") if text.get("field") != "text" else None,
        "--ablation": ablation.get("operator"),
        "--positions": None if ablation.get("positions") == "all" else ablation.get("positions"),
        "--donors": ablation.get("donors") or None,
        "--components": plan.get("components"),
        "--first": text.get("first_position"),
        "--sample": plan.get("sample"),
        "--replicates": plan.get("replicates"),
        "--seed": plan.get("seed"),
        "--engine": None if ablation.get("positions") == "own" else plan.get("engine"),
        "--surrogate": phases.get("surrogate"),
        "--exact-share": phases["exact_documents"] / phases["documents"] if phases else None,
        "--dtype": model.get("dtype"),
    }
    words = ["selfrepair", "run", quote(str(named))]
    for name, value in options.items():
        words += [] if value is None else [name, quote(str(value))]
    for label in plan.get("filters", []):
        words += ["--filter", quote(label)]
    heads = plan.get("heads") or []
    if len(heads) < run.heads_there_are:
        words += ["--heads", quote(",".join(f"L{layer}H{head}" for layer, head in heads))]
    return " ".join(words)


def name(run: Run) -> str:
    """What a run is called beside others: model and operator."""
    own = ", own positions" if captions.fact(run, "positions") == "own" else ""
    return f"{captions.fact(run, 'model')}, {captions.fact(run, 'operator')}{own}"


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | np.integer) else None


def _grouped(value: object) -> str:
    whole = _whole(value)
    return "unknown" if whole is None else f"{whole:,}"


def _number(value: object, unit: str) -> str:
    if not isinstance(value, float | int | np.number):
        return "unknown"
    return f"{small(float(value)) if unit.startswith('logit') else f'{float(value):.3g}'} {unit}"
