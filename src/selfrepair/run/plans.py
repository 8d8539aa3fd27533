"""`plan.json`: everything needed to repeat a run, frozen before it starts."""

from __future__ import annotations

import hashlib
import json
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from selfrepair.ablation.operators import Operator
from selfrepair.ablation.units import Head
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.vocabulary import centring, is_plain
from selfrepair.statistics.filters import Filter
from selfrepair.text import Windows

Plan = dict[str, Any]
_PACKAGES = ("selfrepair", "torch", "transformers", "numpy")


def make_plan(
    model: LanguageModel,
    windows: Windows,
    operator: Operator,
    heads: list[Head],
    filters: list[Filter],
    drawn: np.ndarray,
    *,
    first: int,
    **settings: object,
) -> Plan:
    """The plan of a run that is about to start.

    Args:
        model: the model.
        windows: the corpus.
        operator: the ablation.
        heads: heads to ablate.
        filters: which tokens numbers average over.
        drawn: [window, donor] donor windows.
        first: first position that statistics count.
        settings: `seed`, `components`, `sample`, `engine`, `engine_settings`, `engine_reason`, `engine_exact`,
            `memory_predicted`, `windows_per_batch`, `windows_per_unit`, `replicates`; kept under these names.
    """
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {
            "name": model.name,
            "source": model.source,
            "class": type(model.network).__name__,
            "weights": model.digest,
            "dtype": dtype_name(model),
            "layers": model.anatomy.layers,
            "heads": model.anatomy.heads,
            "vocabulary": model.vocabulary,
        },
        "text": {
            **windows.provenance,
            "fingerprint": windows.fingerprint,
            "windows": len(windows),
            "positions": windows.length,
            "documents": len(frozenset().union(*windows.document_sets())),
            "scored_tokens": int(windows.scored(first).sum()),
            "first_position": first,
        },
        "ablation": {
            "donors_fingerprint": fingerprint(drawn),
            "operator": operator.name,
            "draws": operator.draws,
            "donors": operator.donors,
            "positions": "all",
        },
        "heads": [list(head) for head in heads],
        "filters": [one.label for one in filters],
        **settings,
        "versions": {name: version(name) for name in _PACKAGES},
        "machine": {
            "python": platform.python_version(),
            "device": str(model.device),
            "threads": torch.get_num_threads(),
        },
    }


def how(plan: Plan) -> str:
    """How a run is going to be computed, in a line; where that depends on the machine, that it does."""
    products = plan["engine_settings"].get("precision", "full")
    rounded = (
        f" Effects are rounded to {products}, so by about that much they differ from a processor that takes other "
        "products; --precision full gives the same numbers on all of them, to float32 rounding."
    )
    return (
        f"Engine: {plan['engine_reason']}.{'' if products == 'full' else rounded} "
        f"{plan['windows_per_batch']} windows at a time, "
        f"at most about {plan['memory_predicted'] / 1e9:.1f} GB beside the model.{_switched_off(plan)}"
    )


def _switched_off(plan: Plan) -> str:
    """Whether rows of the vocabulary that are padding or masked enter the mean that logits are centred by."""
    vocabulary = plan["model"]["vocabulary"]
    return "" if is_plain(vocabulary) else f" {centring(vocabulary).capitalize()}."


def dtype_name(model: LanguageModel) -> str:
    """`float32` or `float64`."""
    return str(model.dtype).removeprefix("torch.")


def fingerprint(donors: np.ndarray) -> str:
    """sha256 of the donors of all windows."""
    return hashlib.sha256(np.ascontiguousarray(donors, "<i8").tobytes()).hexdigest()


def identity(plan: Plan) -> str:
    """Identity of a plan: of all that its numbers depend on, when it was made left out."""
    content = {name: value for name, value in plan.items() if name != "created"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def require_same(plan: Plan, model: LanguageModel, windows: Windows, donors: np.ndarray) -> None:
    """Refuses to go on with a run on something else than it was started on.

    Raises:
        SelfRepairError: naming what differs, before and now.
    """
    now = {
        "dtype of the model": (plan["model"]["dtype"], dtype_name(model)),
        "kind of device": (plan["machine"]["device"].split(":")[0], model.device.type),
        "weights of the model": (plan["model"]["weights"], model.digest),
        "text": (plan["text"]["fingerprint"], windows.fingerprint),
        "donors": (plan["ablation"]["donors_fingerprint"], fingerprint(donors)),
        **{f"version of {name}": (was, version(name)) for name, was in plan["versions"].items()},
    }
    changed = [f"{what}: {was} then, {is_now} now" for what, (was, is_now) in now.items() if was != is_now]
    if changed:
        raise SelfRepairError(
            "This run was started on something else, so its units would not fit together. " + "; ".join(changed) + ".",
            "Bring back what it was started with, or start a new run.",
        )
