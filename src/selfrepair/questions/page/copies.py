"""The audit as code, and what it found as claims that can be checked again."""

from __future__ import annotations

import json
import math
from dataclasses import fields

from selfrepair.questions.measuring.batches import LOGIT_DIFFERENCE
from selfrepair.questions.page.shown import ShownAudit
from selfrepair.questions.question_settings import AuditSettings
from selfrepair.statistics.estimates import Estimate

_LOADING = {"revision": None, "dtype": "float32", "device": "auto"}  # options of `load` with their defaults
_IN_CLAIMS = ("donors", "seed", "controls")


def as_python(shown: ShownAudit) -> str:
    """Code that makes the audit again; names from data are literals."""
    roles = {role: [str(site) for site in sites] for role, sites in shown.found.runs.roles.items()}
    settings = ", ".join(f"{name}={value!r}" for name, value in _settings(shown).items())
    identifier, how = _loaded(shown)
    circuit = "\n".join(f"    {role!r}: {names!r}," for role, names in roles.items())
    return "\n".join(
        [
            "from selfrepair import Circuit, Prompts, audit, load",
            "",
            f"model = load({', '.join([repr(identifier), *(f'{name}={value!r}' for name, value in how.items())])})",
            f"prompts = Prompts.read({_file(shown)!r}, model){_chosen(shown)}",
            f"circuit = Circuit({{\n{circuit}\n}})",
            f"found = audit(model, prompts, circuit, {settings})",
            "print(found.verdict.word, found.verdict.reason)",
            "print(found.missing)",
            "",
        ]
    )


def as_claims(shown: ShownAudit) -> str:
    """A claims file: that the circuit is needed, that what is missing covers, how much comes back.

    Bounds are half of what was measured, so that new prompts of the same kind should bear them out; numbers in the
    comments are what was measured.
    """
    found, covering = shown.found, shown.found.covering
    members = "+".join(map(str, shown.members))
    prompts = {
        "file": _file(shown),
        **({} if shown.question.settings.metric == LOGIT_DIFFERENCE else {"metric": shown.question.settings.metric}),
    }
    settings = {name: value for name, value in _settings(shown).items() if name in _IN_CLAIMS}
    identifier, how = _loaded(shown)
    lines = [
        f"model: {{{', '.join(f'{name}: {_quoted(value)}' for name, value in {'id': identifier, **how}.items())}}}",
        f"prompts: {{{', '.join(f'{name}: {_quoted(value)}' for name, value in prompts.items())}}}",
        f"ablation: {_quoted(found.effects.operator)}",
        *(f"{name}: {value}" for name, value in settings.items()),
        "claims:",
    ]
    for row in found.missing.to_dict("records"):
        name, least = str(row["component"]), round(float(row["share"]) / 2, 3)
        terms = f"covers: {_quoted(name)}, for: {_quoted(members)}, share: {{at_least: {least}}}, beats_controls: true"
        lines.append(f"  - {_quoted(f'{name} covers for the circuit')}: {{{terms}}}  # {float(row['share']):.3f}")
    lines.append(_bounded("what comes back is bounded", "repaired_share", members, covering.repaired_share, "at_most"))
    circuit = ",".join(map(str, shown.members))
    lines.append(_bounded("the circuit is needed", "necessity", circuit, found.faithfulness.necessity, "at_least"))
    return "\n".join([*(line for line in lines if line), ""])


def _bounded(name: str, kind: str, subject: str, estimate: Estimate, side: str) -> str:
    """A claim on one number; nothing where there is none, or where half or twice of it bounds nothing."""
    value = float(estimate.value)
    if not math.isfinite(value) or value <= 0:
        return ""
    bound = round(value * (2 if side == "at_most" else 0.5), 3)
    return f"  - {_quoted(name)}: {{{kind}: {_quoted(subject)}, {side}: {bound}}}  # {value:.3f}"


def _settings(shown: ShownAudit) -> dict[str, object]:
    """Settings that are not the default ones, and the ablation always."""
    settings, standard = shown.question.settings, AuditSettings()
    given: dict[str, object] = {"ablation": shown.found.effects.operator}
    for one in fields(AuditSettings):
        value = getattr(settings, one.name)
        if one.name not in ("ablation", "engine") and value != getattr(standard, one.name):
            given[one.name] = value
    return given


def _loaded(shown: ShownAudit) -> tuple[str, dict[str, str]]:
    """What loads the model again: its identifier and options; of a model that came as an object, its name."""
    model = shown.question.model
    source = getattr(model, "source", None) or {"model": model.name}
    options = {name: str(source[name]) for name, usual in _LOADING.items() if source.get(name, usual) != usual}
    return str(source["model"]), options


def _file(shown: ShownAudit) -> str:
    return str(shown.question.prompts.provenance.get("file", "prompts.jsonl"))


def _chosen(shown: ShownAudit) -> str:
    """How prompts were cut short."""
    provenance = shown.question.prompts.provenance
    return f".select(range({provenance['selected']}))" if "selected" in provenance else ""


def _quoted(text: str) -> str:
    """A YAML string: JSON's are."""
    return json.dumps(text, ensure_ascii=True)
