"""Loads a run's job from its folder, for workers and for `resume`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from selfrepair.ablation.operators import OPERATORS, operator
from selfrepair.engine import engine_named
from selfrepair.engine.own_position import OwnPositionEngine
from selfrepair.engine.surrogates import Surrogates, surrogates_named
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.load import load
from selfrepair.results import run_folder
from selfrepair.results.plan import Plan
from selfrepair.results.proven import Stored
from selfrepair.run.planning.job import Design, Job
from selfrepair.run.planning.plan_limits import require_fitting, require_sane
from selfrepair.run.planning.run_plan import require_features, require_same, require_text
from selfrepair.text import Windows

TEXTS = "texts"  # folder of the runs that a merged one was made from


def load_job(path: Path, model: LanguageModel | None = None) -> Job:
    """Loads everything that a run's plan names, and makes sure that it is what the run was started with.

    Args:
        path: the results folder.
        model: the model, if it cannot be loaded by name.

    Raises:
        SelfRepairError: no such run; a model, text or version that has changed; an operator or model that only
            the program that started the run knows.
    """
    design = load_design(path)
    plan, windows, donors = design.plan, design.windows, design.donors
    require_by_name(plan)
    torch.set_num_threads(plan["machine"]["threads"])  # the number of threads affects the last bits
    loaded = _model(plan) if model is None else model
    require_same(plan, loaded)
    made = OwnPositionEngine if plan["ablation"]["positions"] == "own" else partial(engine_named, plan["engine"])
    engine = made(**plan["engine_settings"])
    surrogates = Surrogates() if plan["phases"] is None else surrogates_named(plan["phases"]["surrogate"])
    chosen = operator(plan["ablation"]["operator"], max(1, plan["ablation"]["donors"]))
    return Job(plan, windows, donors, loaded, chosen, engine, surrogates)


def require_by_name(plan: Plan) -> None:
    """Refuses an operator or engine that cannot be made again from the plan.

    Raises:
        SelfRepairError: it is one that only the program that started the run knows.
    """
    if not plan["engine_by_name"]:
        raise SelfRepairError(
            f"The engine '{plan['engine']}' of this run was an object of a class that no name stands for, so it "
            "cannot be made again from the plan.",
            "Start it again with `measure(..., engine=...)` from the program that defines it, with one worker; or "
            "offer the engine by an entry point.",
        )
    name = plan["ablation"]["operator"]
    if not plan["ablation"].get("by_name") or name not in OPERATORS:
        raise SelfRepairError(
            f"The operator '{name}' of this run is not a built-in one, nor one that an installed package offers under "
            "this name with these settings, so it cannot be made again from the plan.",
            "Start it again with `measure(..., ablation=...)` from the program that defines it, with one worker.",
        )


def load_design(path: Path) -> Design:
    """A run's plan and text, without its model: enough to merge and compare.

    Raises:
        SelfRepairError: no such run; one that was merged from several texts; a plan or text that is not what the run
            was started with; units that hold other features than this version reads.
    """
    plan = run_folder.read_plan(path)
    if "texts" in plan:
        raise SelfRepairError(
            f"{path} was merged from runs on {len(plan['texts'])} texts, so it is not itself a run with units.",
            f"The runs are in {path / TEXTS}: take one of those.",
        )
    require_features(plan)
    require_sane(plan)
    windows, donors = _proven(plan, path / run_folder.WINDOWS)[1]
    require_fitting(plan, windows, donors)
    return Design(plan, windows, donors)


def proven_corpus(plan: Plan, path: Path) -> Stored:
    """A `windows.parquet` with digests of a content that is the plan's text.

    Raises:
        SelfRepairError: it is another text, or damaged.
    """
    return _proven(plan, path)[0]


def _proven(plan: Plan, path: Path) -> tuple[Stored, tuple[Windows, np.ndarray]]:
    """The file is hashed, and then read through these digests: so that the text read is the text verified."""
    stored = Stored.as_it_is(path) if path.is_file() else Stored(path)
    windows, donors = run_folder.read_design(stored)
    require_text(plan, windows, donors)
    return stored, (windows, donors)


def text_folders(path: Path) -> list[Path]:
    """The folders with units of a run: itself, or those of the runs that it was merged from.

    Raises:
        SelfRepairError: there is no run there.
    """
    plan = run_folder.read_plan(path)
    return sorted((path / TEXTS).iterdir()) if "texts" in plan else [path]


def _model(plan: Plan) -> LanguageModel:
    source = plan["model"]["source"]
    if source is None:
        raise SelfRepairError(
            f"The model '{plan['model']['name']}' came from memory, so it cannot be loaded by name.",
            "Give it: resume(folder, model=load(your_model, tokenizer)); several workers need a model with a name.",
        )
    return load(**source)
