"""The loop that every worker runs: whatever unit of the run is not done and not being done by somebody else."""

from __future__ import annotations

import time
from collections.abc import Callable

from selfrepair.progress import Advance, progress
from selfrepair.run import survey, sweep, thresholds
from selfrepair.run.job import Job
from selfrepair.run.store import Arrays, Store

_WAIT = 0.5  # seconds between looks at what others are doing


def run_units(job: Job, store: Store, shown: bool = True) -> None:
    """Does all units of a run that are missing; returns when every unit is there, whoever did it.

    Args:
        job: the run.
        store: its finished units.
        shown: whether to show progress.

    Raises:
        CutShort: with what the unit under way had come to.
    """
    numbers = range(len(job.units))

    def surveying(number: int, advance: Advance) -> Arrays:
        return survey.survey_unit(job, number, advance)

    with progress("Survey (clean pass)", len(job.windows), shown) as advance:
        _do_all(store, survey.STAGE, numbers, surveying, advance, lambda n: len(job.units[n]))
    surveyed = merged_survey(job, store)

    def sweeping(number: int, advance: Advance) -> Arrays:
        return sweep.sweep_unit(job, number, surveyed, advance)

    per_window = sweep.work(job) / len(job.windows)
    with progress("Sweep (ablated runs)", sweep.work(job), shown) as advance:
        _do_all(store, sweep.STAGE, numbers, sweeping, advance, lambda n: per_window * len(job.units[n]))


def merged_survey(job: Job, store: Store) -> Arrays:
    """Thresholds and means over the whole corpus, from the file of the first worker that came so far."""

    def merging(_number: int, _advance: Advance) -> Arrays:
        finished = store.finished(survey.STAGE)
        return thresholds.thresholds(job, [finished[number] for number in sorted(finished)])

    _do_all(store, thresholds.STAGE, range(1), merging, lambda _amount: None, lambda _number: 0)
    return store.read(store.finished(thresholds.STAGE)[0])


def _do_all(
    store: Store,
    stage: str,
    numbers: range,
    unit: Callable[[int, Advance], Arrays],
    advance: Advance,
    size: Callable[[int], float],
) -> None:
    """Does a stage's missing units, in order, and waits for those that others have claimed."""
    counted = set(store.sound(stage))
    advance(sum(size(number) for number in counted))
    while missing := sorted(set(numbers) - set(store.finished(stage))):
        done_here = [number for number in missing if _do(store, stage, number, unit, advance)]
        counted.update(done_here)
        by_others = set(store.finished(stage)) - counted
        advance(sum(size(number) for number in by_others))
        counted |= by_others
        if not done_here:
            time.sleep(_WAIT)


def _do(store: Store, stage: str, number: int, unit: Callable[[int, Advance], Arrays], advance: Advance) -> bool:
    if number in store.finished(stage):
        return False
    with store.claim(stage, number) as ours:
        if not ours or number in store.finished(stage):
            return False
        store.write(stage, number, unit(number, advance))
    return True
