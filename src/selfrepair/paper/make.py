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
from selfrepair.paper.claims import Verdict, judge
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments import name_movers, neurons, noise, norm, overview, published, self_gain
from selfrepair.paper.experiments.name_movers.prompts import make_prompts
from selfrepair.paper.inputs.corpus import Corpus
from selfrepair.paper.inputs.recipe import NextBatch, Recipe, recipe_named
from selfrepair.paper.numbers.document_halves import FIRST
from selfrepair.paper.numbers.over_documents import Number
from selfrepair.results.plan import Subject
from selfrepair.results.runs import Run
from selfrepair.results.windows_file import windows_of
from selfrepair.run.measure import measure
from selfrepair.run.planning.run_plan import subject_of
from selfrepair.text import Windows

SECTIONS = ("overview", "noise", "layernorm", "neurons", "iterative", "ioi", "published")
UNSWEPT = ("iterative", "ioi")  # experiments that read nothing of the sweep over all heads
SAMPLE = 2048  # tokens of the uniform sample that the sweep keeps for every head
SCAN_TOKENS = 768  # of the scan over all heads, which costs several forwards
DOSE_TOKENS = 384
PROMPTS_EACH = 2


@dataclass
class Paper:
    """Everything that was made.

    Attributes:
        run: the sweep over all heads; None where nothing made needed it.
        recipe: `default` or `original`.
        exhibits: in the paper's order.
        left_out: experiments that cannot be made on this model or text, with the reason.
        failed: experiments that broke off, or that were asked for by name and cannot be made, with the reason.
        pending: experiments that are still to be made.
        seconds: by experiment.
        unswept: model, text and versions where there was no sweep, as in `Run.plan`.
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
        """What was measured on what."""
        subject = self.unswept if self.run is None else self.run.plan
        assert subject is not None, "a paper without a sweep says what it is about"
        return subject

    @property
    def verdicts(self) -> list[Verdict]:
        """The paper's claims beside what was measured."""
        return judge(self.exhibits)


class Keeper(Protocol):
    """Takes what is made as soon as it is made: `page.Folder` writes it."""

    def keep(self, exhibit: Exhibit) -> None:
        """Takes an exhibit."""

    def show(self, paper: Paper) -> object:
        """Takes all there is so far, after every exhibit and every experiment."""


@dataclass
class Study:
    """What experiments share.

    Attributes:
        model: the model.
        windows: the text.
        swept: the sweep over all heads; None where nothing wanted needs it, see `needs_sweep`.
        recipe: how text, donors and tokens are chosen.
        others: runs of other models, for the overview's panels.
        reference: a folder with published tables.
        seed: of donors and samples.
        scan_tokens: tokens of the scan over all heads.
        slopes: of self-repression at the intervened run's own scale, by head and scale, once they were measured.
        slopes_about: what they were measured on.
    """

    model: LanguageModel
    windows: Windows
    swept: Run | None
    recipe: Recipe
    others: tuple[Run, ...] = ()
    reference: Path | None = None
    seed: int = 0
    scan_tokens: int = SCAN_TOKENS
    slopes: dict[tuple[str, float], Number] = field(default_factory=dict)
    slopes_about: str = ""

    @property
    def run(self) -> Run:
        """The sweep over all heads.

        Raises:
            SelfRepairError: there was none.
        """
        if self.swept is None:
            raise SelfRepairError("This experiment reads the sweep over all heads.", "Give it a run: make.sweep.")
        return self.swept

    def corpus(self, roll: int = 0) -> Corpus:
        """The corpus, with the original recipe's donors rolled as asked."""
        return Corpus(self.model, self.windows, self.recipe, self.seed, roll)


def needs_sweep(only: Sequence[str]) -> bool:
    """Whether any of these experiments, by default all, reads the sweep over all heads."""
    return not only or not set(only) <= set(UNSWEPT)


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
        raise SelfRepairError(f"The run is {run.outcome['status']}.", "Go on with it first: selfrepair resume FOLDER.")
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
    """Makes the experiments; one that fails leaves the others and what it had made itself, see `Paper.failed`.

    Args:
        study: model, text and sweep.
        only: names of `SECTIONS`; all by default.
        said: told what is being done.
        keeper: given each exhibit as it is made.

    Raises:
        SelfRepairError: an unknown name, or published numbers asked for without a reference folder.
    """
    check_names(only, study.reference)
    chosen = [name for name in SECTIONS if (name in only or not only)]
    if study.reference is None and "published" in chosen:
        chosen.remove("published")
    unswept = subject_of(study.model, study.windows, study.recipe.first) if study.swept is None else None
    paper = Paper(study.swept, study.recipe.name, pending=chosen, unswept=unswept)
    for name in tuple(chosen):
        if said is not None:
            said(name)
        with _timed(paper, name):
            try:
                for exhibit in _MAKERS[name](study):
                    if keeper is not None:
                        keeper.keep(exhibit)
                    paper.exhibits.append(exhibit)
                    if keeper is not None:
                        keeper.show(paper)
            except Exception as problem:  # whatever it is, what is made stays
                if isinstance(problem, SelfRepairError) and name not in {*only, "published"}:
                    paper.left_out[name] = str(problem)
                else:
                    paper.failed[name] = problem
        paper.pending.remove(name)
        if keeper is not None:
            keeper.show(paper)
    return paper


def check_names(only: Sequence[str], reference: Path | None) -> None:
    """Whether these experiments can be asked for.

    Raises:
        SelfRepairError: an unknown name, or published numbers without a folder that has them.
    """
    unknown = sorted(set(only) - set(SECTIONS))
    if unknown:
        raise SelfRepairError(f"There is no experiment '{unknown[0]}'.", f"There are: {', '.join(SECTIONS)}.")
    if "published" in only and reference is None:
        raise SelfRepairError(
            "The experiment 'published' needs a folder with published tables.", "Name it with --reference DIR."
        )


@contextmanager
def _timed(paper: Paper, name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    paper.seconds[name] = time.perf_counter() - started


def _overview(study: Study) -> Iterator[Exhibit]:
    runs = [study.run, *study.others]
    yield overview.repair_by_depth(runs)
    yield overview.direct_against_total(runs)
    yield overview.idealised(runs)


def _noise(study: Study) -> Iterator[Exhibit]:
    yield noise.per_token(study.run)
    yield noise.shares(study.run)


def _layernorm(study: Study) -> Iterator[Exhibit]:
    last, earlier = norm.choose_last_layer(study.run), norm.choose_earlier(study.run)
    if not last:
        raise SelfRepairError("No head of the last layer has tokens.", "Take more --tokens.")
    found = norm.study_norm(study.corpus(), [*last, *earlier])
    yield norm.ratios(found, found.heads[:1])
    # Figures 5 and 16 roll the donors by two rows in the original recipe
    rolled = norm.study_norm(study.corpus(2), last[:2]) if study.recipe.original else found
    one = last[min(1, len(last) - 1)]
    yield norm.one_head(rolled, one)
    yield norm.repair_by_norm(study.run)
    yield norm.fractions(study.run)
    yield norm.stream_lengths(rolled, one)
    if len(last) > 2:
        yield norm.ratios(found, found.heads[2 : len(last)], "figure-17-scale-ratio")
    yield norm.accounts(found)
    yield norm.significance(found)


def _neurons(study: Study) -> Iterator[Exhibit]:
    corpus = study.corpus()
    chosen = neurons.choose_heads(study.run, corpus)
    found = neurons.study_neurons(corpus, chosen)
    yield neurons.top_neurons(found)
    yield neurons.rank_curves(found)
    yield neurons.cumulative_change(found)
    yield neurons.by_layer(found)


def _iterative(study: Study) -> Iterator[Exhibit]:
    part = self_gain.for_scan(study.corpus(), study.scan_tokens)
    half = study.model.anatomy.layers // 2
    layers = list(range(half, study.model.anatomy.layers)) if study.recipe.original else None
    found = self_gain.scan(part, layers=layers)
    why = dict(self_gain.choose_heads(found.in_half(FIRST)))
    if why:
        dosed = self_gain.study_doses(
            self_gain.for_scan(study.corpus(), min(DOSE_TOKENS, study.scan_tokens)), list(why)
        )
        study.slopes = {
            (str(head), scale): dosed.tallies[head, self_gain.OWN, scale].slope(
                "x", "at own scale", f"{head} x {scale:g}"
            )
            for head in dosed.heads
            for scale in dosed.scales
        }
        study.slopes_about = f"{dosed.about}."
        yield self_gain.repression(dosed, why)
        yield self_gain.controls(dosed)
    yield self_gain.all_heads(found)


def _ioi(study: Study) -> Iterator[Exhibit]:
    found = name_movers.study_ioi(study.model, make_prompts(study.model.tokenizer, PROMPTS_EACH, study.seed))
    yield name_movers.logit_differences(found)
    yield name_movers.movers_and_backups(found)


def _published(study: Study) -> Iterator[Exhibit]:
    assert study.reference is not None
    slopes = published.compare_self_repression(study.reference, study.model.name, study.slopes, study.slopes_about)
    if slopes is not None:
        yield slopes
    compared = slopes is not None
    for exhibit in published.compare(study.run, study.reference):
        yield exhibit
        compared = True
    if not compared:
        raise SelfRepairError(
            f"{study.reference} has no table of {study.model.name}.",
            "Its column `model` has to name the model measured.",
        )


_MAKERS: dict[str, Callable[[Study], Iterator[Exhibit]]] = {
    "overview": _overview,
    "noise": _noise,
    "layernorm": _layernorm,
    "neurons": _neurons,
    "iterative": _iterative,
    "ioi": _ioi,
    "published": _published,
}
