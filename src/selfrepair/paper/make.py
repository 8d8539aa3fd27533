"""All experiments of the paper on one model, in the paper's order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from selfrepair.ablation.operators import Operator, Resample
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.usual_layers import require_usual_layers
from selfrepair.paper.claims import JudgedClaim, judge_claims
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.inputs.recipe import NextBatch, Recipe, recipe_named
from selfrepair.paper.study import EXPERIMENTS, Study
from selfrepair.results.plan import Subject
from selfrepair.results.runs import Run
from selfrepair.results.windows_file import windows_of
from selfrepair.run.measure import measure
from selfrepair.run.planning.run_plan import subject_of
from selfrepair.text import Windows

SAMPLE = 2048  # tokens of the uniform sample that the sweep keeps for every head


@dataclass
class Paper:
    """All exhibits made, and the experiments that failed or were left out.

    Attributes:
        run: the sweep over all heads; None if no experiment needed it.
        recipe: `default` or `original`.
        exhibits: all exhibits made, in the paper's order.
        left_out: experiments that cannot be made on this model or text, with the reason.
        failed: experiments that failed, or that were asked for by name and cannot be made, with the reason.
        pending: experiments still to be made.
        seconds: computing time of each experiment.
        unswept: model, text and versions if there was no sweep, as in `Run.plan`.
    """

    run: Run | None
    recipe: str
    exhibits: list[Exhibit] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    unswept: Subject | None = None

    @property
    def subject(self) -> Subject:
        """Model, text and versions."""
        subject = self.unswept if self.run is None else self.run.plan
        assert subject is not None, "a paper without a sweep records its subject"
        return subject

    @property
    def verdicts(self) -> list[JudgedClaim]:
        """The paper's claims beside what was measured."""
        return judge_claims(self.exhibits)


class Keeper(Protocol):
    """Receives each exhibit as soon as it is made: `page.Folder` writes it."""

    def keep(self, exhibit: Exhibit) -> None:
        """Receives an exhibit."""

    def show(self, paper: Paper) -> object:
        """Receives the paper so far, after every exhibit and every experiment."""


def needs_sweep(only: Sequence[str]) -> bool:
    """Whether any of these experiments, by default all, reads the sweep over all heads."""
    return any(EXPERIMENTS[name].needs_sweep for name in only or EXPERIMENTS)


def sweep(
    model: LanguageModel,
    windows: Windows,
    recipe: Recipe,
    *,
    out: Path | None = None,
    seed: int = 0,
    batch: int | None = None,
    memory: float | None = None,
    progress: bool = True,
) -> Run:
    """The sweep over all heads that most experiments read: `measure` with what they need.

    Raises:
        SelfRepairError: as `measure`.
    """
    require_usual_layers(model.anatomy, "the paper's experiments")
    return measure(
        model,
        windows,
        ablation=_operator(recipe),
        filters=["all", "top:0.02"],
        components="layers",
        batch=batch,
        memory=memory,
        seed=seed,
        first=recipe.first,
        sample=SAMPLE,
        out=out,
        progress=progress,
    )


def _operator(recipe: Recipe) -> Operator:
    return NextBatch(recipe.batch) if recipe.donors == "offset" else Resample()


def study_of(model: LanguageModel, run: Run, recipe: str = "default") -> Study:
    """A study of a run that exists already.

    Raises:
        SelfRepairError: the run is of another model, is not complete, or was not made by this recipe.
    """
    if run.plan["model"]["weights"] != model.digest:
        raise SelfRepairError(
            f"The run is of {run.plan['model']['name']} with other weights than {model.name}.",
            "Give the run's own model.",
        )
    if run.outcome["status"] != "complete":
        raise SelfRepairError(f"The run is {run.outcome['status']}.", "Finish it first: selfrepair resume FOLDER.")
    require_usual_layers(model.anatomy, "the paper's experiments")
    windows, _ = windows_of(run.windows)
    chosen = recipe_named(recipe, windows)
    first = int(run.plan["text"]["first_position"])
    operator = run.plan["ablation"]["operator"]
    if chosen.original != (operator == NextBatch(1).name) or (chosen.original and first != chosen.first):
        raise SelfRepairError(
            f"The run was made with {operator} ablation from position {first}, not by the {recipe} recipe.",
            "Leave --run out, or give the recipe that it was made by.",
        )
    return Study(model, windows, run, replace(chosen, first=first), seed=int(run.plan["seed"]))


def make(
    study: Study, only: Sequence[str] = (), said: Callable[[str], None] | None = None, keeper: Keeper | None = None
) -> Paper:
    """Makes the experiments; if one fails, its finished exhibits and the others are kept, see `Paper.failed`.

    Args:
        study: model, text and sweep.
        only: names in `EXPERIMENTS`; all by default.
        said: called with the name of each experiment as it starts.
        keeper: given each exhibit as it is made.

    Raises:
        SelfRepairError: an unknown name, or published numbers asked for without a reference folder.
    """
    check_names(only, study.reference)
    every = {name: EXPERIMENTS[name] for name in EXPERIMENTS if name in only or not only}
    chosen = [name for name, wanted in every.items() if study.reference is not None or not wanted.needs_reference]
    unswept = subject_of(study.model, study.windows, study.recipe.first) if study.swept is None else None
    paper = Paper(study.swept, study.recipe.name, pending=chosen, unswept=unswept)
    for name in tuple(chosen):
        if said is not None:
            said(name)
        with _timed(paper, name):
            try:
                for exhibit in every[name].make(study):
                    if keeper is not None:
                        keeper.keep(exhibit)
                    paper.exhibits.append(exhibit)
                    if keeper is not None:
                        keeper.show(paper)
            except Exception as problem:  # of any kind: exhibits made so far are kept
                asked_for = name in only or every[name].needs_reference
                if isinstance(problem, SelfRepairError) and not asked_for:
                    paper.left_out[name] = str(problem)
                else:
                    paper.failed[name] = problem
        paper.pending.remove(name)
        if keeper is not None:
            keeper.show(paper)
    return paper


def check_names(only: Sequence[str], reference: Path | None) -> None:
    """Checks that these experiments can be made.

    Raises:
        SelfRepairError: an unknown name, one of a package that fails to import, or published numbers without a folder
            of them.
    """
    for name in only or EXPERIMENTS:
        if EXPERIMENTS[name].needs_reference and name in only and reference is None:
            raise SelfRepairError(
                f"The experiment '{name}' needs a folder with published tables.", "Name it with --reference DIR."
            )


@contextmanager
def _timed(paper: Paper, name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    paper.seconds[name] = time.perf_counter() - started
