"""The worker loop: claim an unfinished unit, do it, repeat."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

from selfrepair.progress import Advance, Meter, progress
from selfrepair.results.proven import Damaged
from selfrepair.run.planning.job import Design, Job
from selfrepair.run.scheduling.early_stopping import UnitsSoFar
from selfrepair.run.storage.finished_unit import Unit
from selfrepair.run.storage.log import log
from selfrepair.run.storage.store import Store
from selfrepair.run.storage.unit_file import Arrays
from selfrepair.run.unit import survey, sweep, thresholds

SURVEY_TITLE, SWEEP_TITLE = "Survey (clean pass)", "Sweep (ablated runs)"
_WAIT = 0.5  # seconds between looks at what others are doing
_TRIES = 4  # how often units found damaged in use are done again
Made = TypeVar("Made")


def run_units(job: Job, store: Store, shown: bool = True) -> None:
    """Does the missing units of a run; returns when every unit that is needed is there, whichever worker did it.

    Args:
        job: the run.
        store: its finished units.
        shown: whether to show progress.

    Raises:
        CutShort: with the results so far of the unit under way.
    """

    _survey(job, store, shown)
    merged = merged_survey(job, store)
    surveyed = merged.starting_with("")
    tokens = job.windows.length * len(job.windows) / sweep.work(job)

    def sweeping(number: int, advance: Advance) -> Arrays:
        return sweep.sweep_unit(job, number, surveyed, lambda work: advance(work * tokens))

    so_far = UnitsSoFar(job, store)

    def enough() -> bool:
        so_far.catch_up()
        meter.say(so_far.describe())
        return so_far.done

    with stage_progress(job, SWEEP_TITLE, shown) as meter:
        _Stage(job, store, sweep.STAGE, sweeping, meter, enough, made_of=lambda: [merged.digest]).do_all()
    log(store.folder, f"swept: {so_far.describe()}")


def stage_progress(design: Design, title: str, shown: bool) -> AbstractContextManager[Meter]:
    """Progress over all tokens of a run."""
    return progress(title, design.windows.length * len(design.windows), shown)


def unit_tokens(design: Design, number: int) -> int:
    """Tokens of a unit, padding included: what progress counts."""
    return design.windows.length * len(design.units[number])


def persistently(store: Store, attempt: Callable[[], Made]) -> Made:
    """Does something that uses units. A unit found damaged is put aside, which is reported, and all is tried again, a
    few times.

    Raises:
        Damaged: units were found damaged too often.
    """
    for _ in range(_TRIES - 1):
        try:
            return attempt()
        except Damaged as damage:
            store.put_aside(damage)
    return attempt()


def _survey(job: Job, store: Store, shown: bool) -> None:
    def surveying(number: int, advance: Advance) -> Arrays:
        return survey.survey_unit(job, number, lambda windows: advance(windows * job.windows.length))

    with stage_progress(job, SURVEY_TITLE, shown) as meter:
        _Stage(job, store, survey.STAGE, surveying, meter).do_all()


def merged_survey(job: Job, store: Store) -> Unit:
    """Thresholds and means over the whole corpus, from the file of the first worker that came so far.

    They rest on the present units of the survey; if one of those has gone, it is done again first.
    """

    def surveyed() -> list[Unit]:
        return list(store.finished(survey.STAGE).values())

    def merging(_number: int, _advance: Advance) -> Arrays:
        return thresholds.thresholds(job, surveyed())

    def attempt() -> Unit:
        if len(surveyed()) < len(job.units):
            _survey(job, store, shown=False)
        silent, made_of = Meter(0, lambda _meter: None), [unit.digest for unit in surveyed()]
        _Stage(job, store, thresholds.STAGE, merging, silent, units=1, made_of=lambda: made_of).do_all()
        merged = thresholds.merged_unit(store)
        merged.require_made_of(made_of, "units of the survey")
        return merged

    return persistently(store, attempt)


class _Stage:
    """One stage's units.

    Args:
        job: the run.
        store: its finished units.
        stage: which stage.
        unit: does a unit and reports its progress.
        meter: shows progress.
        enough: whether no more units are needed; by default when all are there.
        units: how many there are; by default the run's.
        made_of: digests of what its units rest on; those that rest on something else do not count.
    """

    def __init__(
        self,
        job: Job,
        store: Store,
        stage: str,
        unit: Callable[[int, Advance], Arrays],
        meter: Meter,
        enough: Callable[[], bool] | None = None,
        units: int | None = None,
        made_of: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self.job, self.store, self.stage, self.unit, self.meter = job, store, stage, unit, meter
        self.made_of, self.patience = made_of, _TRIES
        self.units = len(job.units) if units is None else units
        self.enough = enough or (lambda: not self._missing())

    def do_all(self) -> None:
        """Does the missing units, in order, and waits for those that others have claimed."""
        self._put_aside_strangers()
        counted = set(self.store.finished(self.stage))
        self.meter.already(self._size(counted))
        while not self._enough():
            done_here = set(self._do_missing())
            counted |= done_here
            by_others = set(self.store.finished(self.stage)) - counted
            self.meter.already(self._size(by_others))
            counted |= by_others
            if not done_here:
                time.sleep(_WAIT)
        self.meter(0)

    def _put_aside_strangers(self) -> None:
        """Leaves only intact units that rest on what they should."""
        for unit in self.store.sound(self.stage).values():
            try:
                unit.require_made_of(self.made_of(), "thresholds or survey units")
            except Damaged as damage:
                self.store.put_aside(damage)

    def _enough(self) -> bool:
        """Whether no more units are needed; a damaged one found while looking is put aside."""
        try:
            return self.enough()
        except Damaged as damage:
            self.patience -= 1
            if self.patience == 0:
                raise
            self.store.put_aside(damage)
            return False

    def _missing(self) -> list[int]:
        return sorted(set(range(self.units)) - set(self.store.finished(self.stage)))

    def _size(self, numbers: set[int]) -> int:
        return sum(unit_tokens(self.job, number) for number in numbers if number < len(self.job.units))

    def _do_missing(self) -> Iterator[int]:
        """Numbers of the units that are done here, until there are enough."""
        for number in self._missing():
            if self._do(number):
                yield number
                if self._enough():
                    return

    def _do(self, number: int) -> bool:
        with self.store.claim(self.stage, number) as ours:
            if not ours or number in self.store.finished(self.stage):
                return False
            started = time.monotonic()
            self.store.write(self.stage, number, self.unit(number, self.meter), self.made_of())
            line = f"{self.stage} {number + 1} of {self.units} took {time.monotonic() - started:.1f} s"
            log(self.store.folder, f"{line}; {self.meter.describe()}")
            return True
