"""`plan.json`: everything needed to repeat a run, and what it says of itself when it is done."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from selfrepair.run.survey import Survey
from selfrepair.run.sweep import Accuracy, Design
from selfrepair.statistics.filters import Filter

_PACKAGES = ("selfrepair", "torch", "transformers", "numpy")


def plan(design: Design, filters: Sequence[Filter], seed: int, sample: int) -> dict[str, Any]:
    """The plan of a run that is about to start."""
    model, windows = design.model, design.windows
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "status": "running",
        "model": {
            "name": model.name,
            "class": type(model.network).__name__,
            "weights": model.digest,
            "dtype": str(model.dtype).removeprefix("torch."),
            "layers": model.anatomy.layers,
            "heads": model.anatomy.heads,
        },
        "text": {
            **windows.provenance,
            "fingerprint": windows.fingerprint,
            "windows": len(windows),
            "positions": windows.length,
            "documents": len({d for documents in windows.document_sets() for d in documents}),
            "scored_tokens": int(windows.scored(design.first).sum()),
            "first_position": design.first,
        },
        "ablation": {
            "operator": design.operator.name,
            "draws": design.operator.draws,
            "donors": design.operator.donors,
            "seed": seed,
            "positions": "all",
        },
        "units": [list(unit) for unit in design.units],
        "filters": [one.label for one in filters],
        "components": design.components,
        "kept_sample": sample,
        "engine": {"name": design.engine.name, "windows_per_batch": design.batch},
        "versions": {name: version(name) for name in _PACKAGES},
        "machine": {
            "python": platform.python_version(),
            "device": str(model.device),
            "threads": torch.get_num_threads(),
        },
    }


def finished(
    plan: dict[str, Any], design: Design, surveyed: Survey, accuracy: Accuracy, status: str, seconds: float
) -> dict[str, Any]:
    """The plan with what the run found out about itself."""
    return {
        **plan,
        "status": status,
        "seconds": round(seconds, 1),
        "engine": {**plan["engine"], "heads_per_batch": getattr(design.engine, "fold", None)},
        "checks": {
            "loss_nats_per_token": surveyed.loss,
            "readout_error": surveyed.readout_error,
            "numerical_floor": accuracy.floor,
            "ledger_residual": accuracy.residual,
            "ledger_closes": accuracy.closes,
        },
    }


def attributes(plan: dict[str, Any]) -> dict[str, object]:
    """What `heads.nc` says about itself, flat."""
    checks, ablation, text = plan["checks"], plan["ablation"], plan["text"]
    return {
        "title": f"Self-repair of {plan['model']['name']} under {ablation['operator']} ablation",
        "model": plan["model"]["name"],
        "weights": plan["model"]["weights"],
        "dtype": plan["model"]["dtype"],
        "text": text["source"],
        "text_fingerprint": text["fingerprint"],
        "tokens": text["scored_tokens"],
        "documents": text["documents"],
        "first_position": text["first_position"],
        "operator": ablation["operator"],
        "donors": ablation["donors"],
        "seed": ablation["seed"],
        "engine": plan["engine"]["name"],
        "loss_nats_per_token": checks["loss_nats_per_token"],
        "readout_error": checks["readout_error"],
        "numerical_floor": checks["numerical_floor"],
        "ledger_residual": checks["ledger_residual"],
        "ledger_closes": checks["ledger_closes"],
        "status": plan["status"],
        "created": plan["created"],
        "software": " ".join(f"{name} {number}" for name, number in plan["versions"].items()),
    }
