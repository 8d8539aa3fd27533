"""The main job: plan, survey, sweep, merge. Finished work is on disk; an interrupted run can be resumed."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Unpack

from torch import set_num_threads

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.sites import Site
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.progress import say
from selfrepair.results import checks, run_folder
from selfrepair.results.proven import Damaged
from selfrepair.results.runs import Run
from selfrepair.run.budget.within_budget import within_budget
from selfrepair.run.closeups.attach import attach_closeups, closeups_of_before
from selfrepair.run.gathering.all_texts import measured_text, pool_of
from selfrepair.run.gathering.best_effort import never_costs_the_run, temporary_folder
from selfrepair.run.gathering.engine_bias import biases
from selfrepair.run.gathering.merged_run import merged
from selfrepair.run.planning import run_plan
from selfrepair.run.planning.job import Design, Job
from selfrepair.run.planning.keyword_signature import with_keywords
from selfrepair.run.planning.prepare import prepare
from selfrepair.run.planning.reload import load_job
from selfrepair.run.planning.settings import Keywords, Settings
from selfrepair.run.scheduling.executors import HERE, execute
from selfrepair.run.scheduling.unit_loop import merged_survey, persistently, run_units
from selfrepair.run.storage.log import log
from selfrepair.run.storage.store import RESULTS, Store
from selfrepair.run.storage.unit_file import FIX, Arrays
from selfrepair.run.unit import interrupted
from selfrepair.run.unit.sweep import STAGE as SWEEP
from selfrepair.run.unit.sweep import CutShort
from selfrepair.text import Windows


class ChecksFail(UserWarning):
    """Numbers that must not be used: one of the run's checks fails.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", ChecksFail)  # a run that fails its checks raises
        ...     measured = measure(model, text, heads="L1H1", progress=False)
    """


class LedgerDoesNotClose(ChecksFail):
    """A check that failed: on some token the ledger's lines do not add up to the self-repair.

    Example:
        >>> issubclass(LedgerDoesNotClose, ChecksFail)
        True
    """


class NumbersAreInexact(UserWarning):
    """Numbers to be used with care: errors of single tokens are above the limit of 1% of the effects.

    Example:
        >>> issubclass(NumbersAreInexact, ChecksFail)
        False
    """


@with_keywords
def measure(
    model: LanguageModel,
    windows: Windows,
    *,
    interventions: Sequence[Intervention | Site] | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    **settings: Unpack[Keywords],
) -> Run:
    """Ablates heads one by one and keeps the ledger of self-repair.

    Interrupted (Ctrl-C), it returns what had been computed, with status `interrupted`; an error in the sweep is
    raised after that has been written, with status `failed`. `resume` goes on from there.

    Example:
        >>> run = measure(model, text, ablation="resample", heads="L1", progress=False)
        >>> run.outcome["status"], run.heads["total_effect"].dims
        ('complete', ('filter', 'layer', 'head'))

    Args:
        model: from `load`.
        windows: from `windows`.
        interventions: what to ablate where it is not single heads: sites (`Mlp(9)`), or sets of sites with others
            frozen; one ablated run each. Every mixer by default in models without heads. Results are in
            `Run.interventions`.
        out: results folder; without it units are kept in a temporary one for as long as this lasts, longer where an
            error would throw away what had been measured. `ray` and `slurm` need it.
        progress: whether to show progress.
        settings: what to measure and how, any of:

            {settings}

            Beside names, `ablation` takes an operator, `engine` an engine and `filters` filters; `heads` takes
            `"L9H6,L10"`, `["L9H6", (10, 3)]` or alike (`ablation.names`). `threads` are set for the whole process and
            stay as they are by default. More than one of `workers` needs a model that can be loaded by name. With
            `until_se` documents come in random order, and `until` counts under the first top filter (or the first).
            With `minutes` the windows are the most text: as many of the first ones are taken as fit.

    Returns:
        The run: estimates per filter and head, kept tokens, windows, plan and outcome.

    Raises:
        SelfRepairError: an unknown setting, no donors, no scored tokens, a folder that exists, a disk that is full.
    """
    asked = Settings.of(**settings)
    folder = None if out is None else run_folder.prepare_folder(out)
    work = asked.work
    if work.threads is not None:
        set_num_threads(work.threads)
    planned = prepare if asked.stopping.minutes is None else within_budget
    job = planned(model, windows, asked, interventions)
    if folder is not None:
        write_design(job, folder)
        return carry_out(job, folder, work.workers, work.executor, progress)
    _require_place(work.workers, work.executor)
    with temporary_folder() as temporary:
        write_design(job, temporary)
        run = carry_out(job, temporary, work.workers, work.executor, progress, keep=False)
        return replace(run, kept=run.tokens, corpus=run.windows)


def _require_place(workers: int, executor: str) -> None:
    """Refuses workers on other machines without a folder that all of them see."""
    if executor != HERE:
        raise SelfRepairError(
            f"The executor '{executor}' needs a folder that all {workers} workers see; `out` was not given.",
            "Give one: measure(..., out=FOLDER), on a disk that they share.",
        )


def write_design(job: Design, folder: Path) -> None:
    """Writes plan and text of a run that is about to start: from then on any worker can join."""
    run_folder.write_plan(job.plan, folder / run_folder.PLAN)
    run_folder.write_corpus(job.windows, job.donors, folder, job.plan)


def resume(
    path: str | Path,
    model: LanguageModel | None = None,
    workers: int = 1,
    executor: str = HERE,
    progress: bool = True,
) -> Run:
    """Goes on with a run that was cut short, or merges one that is done.

    Example:
        >>> resume("runs/resample", model, progress=False).outcome["status"]
        'complete'

    Args:
        path: its results folder.
        model: its model, if it cannot be loaded by name.
        workers: how many workers.
        executor: where they run: a name in `selfrepair.choices.EXECUTORS`, by default processes of this machine.
        progress: whether to show progress.

    Raises:
        SelfRepairError: another model, text or version than the run was started with.
    """
    return carry_out(load_job(Path(path), model), Path(path), workers, executor, progress)


def carry_out(job: Job, folder: Path, workers: int, executor: str, progress: bool, keep: bool = True) -> Run:
    """Does the missing units of a run and merges it.

    Args:
        job: the run.
        folder: its folder.
        workers: how many workers.
        executor: where they run.
        progress: whether to show progress.
        keep: whether to write the merged run's numbers too.
    """
    started = time.time()
    store = Store(folder, run_plan.identity(job.plan))
    if strangers := store.strangers():
        store.tell(strangers)
    log(folder, f"starts with {workers} workers ({executor}), selfrepair {job.plan['versions']['selfrepair']}")
    log(folder, run_plan.how(job.plan))
    say(run_plan.how(job.plan), progress)
    swept: _Swept | None = None

    def attempt() -> Run:
        nonlocal swept
        if swept is None or swept.status == "complete":
            swept = _sweep(job, store, workers, executor, progress)
        with store.alone(RESULTS):
            return _merge(job, store, swept, started, keep)

    run = persistently(store, attempt)
    assert swept is not None
    if swept.status == "complete":
        interrupted.forget(store)
    if swept.problem is not None and swept.status == "failed":
        raise swept.problem
    if swept.status == "complete" and swept.here:
        with never_costs_the_run("closer look at single tokens"):
            surveyed = merged_survey(job, store).starting_with("")
            run = attach_closeups(job, surveyed, run, store if keep else None, progress)
    _warn(run)
    return run


@dataclass(frozen=True)
class _Swept:
    """How the sweep ended.

    Attributes:
        status: `complete`, `interrupted` or `failed`.
        short: results so far of the unit under way, if any.
        problem: the error that ended it.
        here: whether on this machine; elsewhere this may be one without a device.
    """

    status: str
    short: CutShort | None = None
    problem: BaseException | None = None
    here: bool = True


def _sweep(job: Job, store: Store, workers: int, executor: str, progress: bool) -> _Swept:
    """Does the missing units.

    Raises:
        KeyboardInterrupt: before there was anything to show.
    """
    try:
        if workers > 1 or executor != HERE:
            execute(job, store, executor, workers, progress)
        else:
            run_units(job, store, progress)
    except CutShort as cut:
        return _Swept("interrupted" if isinstance(cut.__cause__, KeyboardInterrupt) else "failed", cut, cut.__cause__)
    except KeyboardInterrupt:
        if not store.finished(SWEEP):
            raise
        return _Swept("interrupted")
    return _Swept("complete", here=executor == HERE)


def _merge(job: Job, store: Store, swept: _Swept, started: float, keep: bool) -> Run:
    """Adds units up; writes the results if `keep`.

    Raises:
        Damaged: a unit is gone, or not what was written.
    """
    surveyed, folder = merged_survey(job, store), store.folder
    unfinished = [] if swept.status == "complete" else interrupted.unfinished_units(store, surveyed, swept.short)
    pool = pool_of(measured_text(job, store, unfinished))
    if swept.status == "complete" and pool.missing:
        problem = f"{pool.missing} of {len(job.units)} units have gone from {store.units} since they were done."
        raise Damaged(store.units / SWEEP, problem, FIX)
    run = merged(pool, job.plan, folder, swept.status, time.time() - started)
    log(folder, f"{run.outcome['status']}: {run.outcome['units']} units merged")
    if swept.status == "complete" and swept.here and pool.judgement.engine_inexact:
        run = _with_biases(job, surveyed.starting_with(""), run)
    if keep:
        run = replace(run, extras=replace(closeups_of_before(store, run), passages=run.extras.passages))
        run = run_folder.write_results(run, folder)
    return run


def _with_biases(job: Job, surveyed: Arrays, run: Run) -> Run:
    """Adds the engine's bias of the means that tables show; a failure costs no more than this."""
    try:
        engine_biases = [asdict(bias) for bias in biases(job, surveyed, run)]
    except Damaged:  # the numbers rest on that too
        raise
    except (Exception, KeyboardInterrupt) as problem:
        warning = f"The bias of the means could not be measured ({type(problem).__name__}: {problem})."
        return replace(run, outcome=run.outcome | {"warnings": [*run.outcome["warnings"], warning]})
    return replace(run, outcome=run.outcome | {"engine_bias": engine_biases})


def _warn(run: Run) -> None:
    """Warns of the run's failed checks and inexact numbers."""
    failed, inexact = checks.failed(run.outcome), checks.warned(run.outcome)
    if failed:
        kind = ChecksFail if run.outcome["ledger_closes"] else LedgerDoesNotClose
        warnings.warn(f"{' '.join(failed)} Do not use these numbers.", kind, stacklevel=3)
    if inexact:
        warnings.warn(" ".join(inexact), NumbersAreInexact, stacklevel=3)
