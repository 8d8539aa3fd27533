"""`plan.json`: everything needed to repeat a run, frozen before it starts."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import cast

import numpy as np
import torch

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.operators import OPERATORS, Operator, made_by_name
from selfrepair.ablation.sites import Head
from selfrepair.engine import ENGINES
from selfrepair.engine.surrogates import SURROGATES
from selfrepair.errors import SelfRepairError
from selfrepair.model.kinship import weights_sample
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.vocabulary_rows import centring_in_words, is_plain
from selfrepair.results.plan import EngineFacts, ModelFacts, PhasesFacts, Plan, Subject, TextFacts, UntilFacts
from selfrepair.results.plan_changes import plan_changes
from selfrepair.results.plan_file import json_content
from selfrepair.run.planning.machine import machine, machine_facts
from selfrepair.run.planning.settings import Settings
from selfrepair.statistics.features import FEATURES
from selfrepair.statistics.filters import Filter
from selfrepair.text import Windows
from selfrepair.text.duplicates import duplicates_in_words

_PACKAGES = ("selfrepair", "torch", "transformers", "numpy", "scipy")  # their versions affect the last bits

# Entries of a plan on its text that are not in the text's provenance.
_COUNTED = ("fingerprint", "windows", "positions", "documents", "scored_tokens", "first_position")


def make_plan(
    subject: Subject,
    operator: Operator,
    heads: list[Head],
    drawn: np.ndarray,
    settings: Settings,
    until: UntilFacts | None,
    engine: EngineFacts,
    device: torch.device,
    interventions: list[Intervention] | None = None,
    phases: PhasesFacts | None = None,
) -> Plan:
    """The plan of a run that is about to start.

    Args:
        subject: model and text.
        operator: the ablation.
        heads: heads to ablate, or cells of `interventions` (`Design.heads`).
        drawn: [window, donor] donor windows.
        settings: what was asked for; those of its fields that hold as given are kept under their names.
        until: when to stop early; None for a run that goes on to its end.
        engine: how ablated runs are computed.
        device: device of the model.
        interventions: what to ablate where it is not single heads.
        phases: how documents are measured where there is a surrogate.
    """
    by_name = made_by_name(operator)
    plan = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": subject["model"],
        "text": subject["text"],
        "ablation": {
            "donors_fingerprint": fingerprint(drawn),
            "operator": operator.name,
            "by_name": by_name,
            "draws": operator.draws,
            "donors": operator.donors,
            "positions": settings.ablation.positions,
        },
        "heads": [list(head) for head in heads],
        "interventions": None
        if interventions is None
        else [intervention.described() for intervention in interventions],
        "filters": [filter_.label for filter_ in filters_of(settings)],
        "features": list(FEATURES),
        **settings.as_given(),
        "until": until,
        "budget": None,
        "phases": phases,
        **engine,
        "versions": subject["versions"]
        | (OPERATORS.versions(operator.name) if by_name else {})
        | (ENGINES.versions(engine["engine"]) if engine["engine"] in ENGINES else {})
        | _surrogate_versions(phases),
        "machine": machine(device),
    }
    return cast(Plan, plan)


def _surrogate_versions(phases: PhasesFacts | None) -> dict[str, str]:
    names = [] if phases is None else phases["surrogate"].split("+")
    return {package: version for name in names for package, version in SURROGATES.versions(name).items()}


def subject_of(model: LanguageModel, windows: Windows, first: int) -> Subject:
    """A plan's entries on model, text and software.

    Args:
        model: the model.
        windows: the corpus.
        first: first position that statistics count.
    """
    text = {
        **windows.provenance,
        "fingerprint": windows.fingerprint,
        "windows": len(windows),
        "positions": windows.length,
        "documents": len(frozenset().union(*windows.document_sets())),
        "scored_tokens": int(windows.scored(first).sum()),
        "first_position": first,
    }
    facts: ModelFacts = {
        "name": model.name,
        "source": model.source,
        "class": type(model.network).__name__,
        "weights": model.digest,
        "weights_sample": weights_sample(model.anatomy),
        "dtype": dtype_name(model),
        "precision": model.weights,
        "layers": model.anatomy.layers,
        "heads": model.anatomy.heads,
        "heads_by_layer": model.anatomy.heads_by_layer,
        "vocabulary": model.vocabulary,
    }
    return {"model": facts, "text": cast(TextFacts, text), "versions": {name: version(name) for name in _PACKAGES}}


def filters_of(settings: Settings) -> list[Filter]:
    """The filters that were asked for, each once.

    Raises:
        SelfRepairError: text that is no filter.
    """
    given = settings.statistics.filters
    return list(dict.fromkeys(Filter.parse(item) if isinstance(item, str) else item for item in given))


def how(plan: Plan) -> str:
    """How a run will be computed, in a line that says if that depends on the machine."""
    twice = duplicates_in_words(plan["text"])
    products = plan["engine_settings"].get("precision", "full")
    rounded = (
        f" Effects are rounded to {products}, so by about that much they differ from a processor that takes other "
        "products; --precision full gives the same numbers on all of them, to float32 rounding."
    )
    return (
        f"Engine: {plan['engine_reason']}.{'' if products == 'full' else rounded} "
        f"{plan['windows_per_batch']} windows at a time, "
        f"at most about {plan['memory_predicted'] / 1e9:.1f} GB beside the model.{_switched_off(plan)}"
        + (f" Text: {twice}." if twice else "")
        + ("" if plan["budget"] is None else f" Time: {plan['budget']['reason']}.")
    )


def _switched_off(plan: Plan) -> str:
    """Whether rows of the vocabulary that are padding or masked enter the mean that logits are centred by."""
    vocabulary = plan["model"]["vocabulary"]
    return "" if is_plain(vocabulary) else f" {centring_in_words(vocabulary).capitalize()}."


def dtype_name(model: LanguageModel) -> str:
    """`float32` or `float64`."""
    return str(model.dtype).removeprefix("torch.")


def fingerprint(donors: np.ndarray) -> str:
    """sha256 of the donors of all windows."""
    return hashlib.sha256(np.ascontiguousarray(donors, "<i8").tobytes()).hexdigest()


def identity(plan: Plan) -> str:
    """Identity of a plan: a digest of all that its numbers depend on, so not of its date."""
    content = {name: value for name, value in plan.items() if name != "created"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _installed(package: str) -> str:
    """Its version; the package of another operator or engine may be missing here."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def require_same(plan: Plan, model: LanguageModel) -> None:
    """Refuses to continue a run on anything but what it was started on; its text is checked when it is read.

    Raises:
        SelfRepairError: naming what differs, before and now.
    """
    was, now = machine_facts(plan["machine"]), machine_facts(machine(model.device))
    _refuse(
        {
            "dtype of the model": (plan["model"]["dtype"], dtype_name(model)),
            "kind of device": (plan["machine"]["device"].split(":")[0], model.device.type),
            "weights of the model": (plan["model"]["weights"], model.digest),
            **{f"version of {name}": (given, _installed(name)) for name, given in plan["versions"].items()},
            **{f"machine's {name}": (was.get(name), now.get(name)) for name in sorted({*was, *now})},
        }
    )


def require_text(plan: Plan, windows: Windows, donors: np.ndarray) -> None:
    """Refuses a text that is not the one that the plan was made for.

    Raises:
        SelfRepairError: naming what differs, before and now.
    """
    planned, stored = json_content(plan["text"]), json_content(windows.provenance)
    _refuse(
        {
            "text": (plan["text"]["fingerprint"], windows.fingerprint),
            "donors": (plan["ablation"]["donors_fingerprint"], fingerprint(donors)),
            **{f"text.{name}": (planned.get(name), value) for name, value in stored.items() if name not in _COUNTED},
        }
    )


def require_features(plan: Plan) -> None:
    """Refuses a run whose units hold other sums than this version of the package reads: columns are found by position.

    Raises:
        SelfRepairError: naming what differs, before and now.
    """
    changed = plan_changes({"features": plan.get("features")}, {"features": list(FEATURES)})
    if changed:
        raise SelfRepairError(
            f"The units of this run hold other features than this version reads: {'; '.join(changed)}.",
            f"Use the version of selfrepair that made it ({plan.get('versions', {}).get('selfrepair', 'unknown')}), or "
            "start a new run.",
        )


def _refuse(compared: dict[str, tuple[object, object]]) -> None:
    """Refuses pairs (then, now), by name, that differ."""
    changed = [f"{what}: {was} then, {now} now" for what, (was, now) in compared.items() if was != now]
    if changed:
        raise SelfRepairError(
            "This run was started on something else, so its units would not fit together. " + "; ".join(changed) + ".",
            "Bring back what it was started with, or start a new run.",
        )
