"""A run's job back from its folder: for workers and for `resume`."""

from __future__ import annotations

from pathlib import Path

import torch

from selfrepair.ablation.operators import operator
from selfrepair.engine import ReplayEngine, engine_named
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.load import load
from selfrepair.results import folder
from selfrepair.results.windows import windows_of
from selfrepair.run.job import Job
from selfrepair.run.plans import Plan, require_same

_BUILT_IN = ("resample", "mean", "position-mean", "zero", "unchanged")


def load_job(path: Path, model: LanguageModel | None = None) -> Job:
    """Loads everything that a run's plan names, and makes sure that it is what the run was started with.

    Args:
        path: the results folder.
        model: the model, where it cannot be loaded by name.

    Raises:
        SelfRepairError: no such run; a model, text or version that has changed; an operator or model that only
            the program that started the run knows.
    """
    plan = folder.read_plan(path)
    windows, donors = windows_of(folder.read_windows(path))
    torch.set_num_threads(plan["machine"]["threads"])  # the number of threads shows in the last bits
    loaded = _model(plan) if model is None else model
    require_same(plan, loaded, windows)
    name = plan["ablation"]["operator"]
    if name not in _BUILT_IN:
        raise SelfRepairError(
            f"The operator '{name}' of this run is not a built-in one, so it cannot be made again from the plan.",
            "Start it again with `measure(..., ablation=...)` from the program that defines it.",
        )
    engine = engine_named(plan["engine"])
    if isinstance(engine, ReplayEngine):
        engine.fold = plan["heads_per_batch"]
    return Job(plan, loaded, windows, operator(name, max(1, plan["ablation"]["donors"])), donors, engine)


def _model(plan: Plan) -> LanguageModel:
    source = plan["model"]["source"]
    if source is None:
        raise SelfRepairError(
            f"The model '{plan['model']['name']}' came from memory, so it cannot be loaded by name.",
            "Give it: resume(folder, model=load(your_model, tokenizer)); several workers need a model with a name.",
        )
    return load(**source)
