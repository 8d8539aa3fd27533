"""The loop that every worker runs: whatever unit of the run is not done and not being done by somebody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from selfrepair.progress import Advance, Meter, progress
from selfrepair.run import survey, sweep, thresholds
from selfrepair.run.job import Design, Job
from selfrepair.run.log import log
from selfrepair.run.looks import Looks
from selfrepair.run.store import Arrays, Store

SURVEY_TITLE, SWEEP_TITLE = "Survey (clean pass)", "Sweep (ablated runs)"
_WAIT = 0.5  # seconds between looks at what others are doing


def run_units(job: Job, store: Store, shown: bool = True) -> None:
    """Does all units of a run that are missing; returns when every unit that is needed is there, whoever did it.

    Args:
        job: the run.
        store: its finished units.
        shown: whether to show progress.

    Raises:
        CutShort: with what the unit under way had come to.
    """

    def surveying(number: int, advance: Advance) -> Arrays:
        return survey.survey_unit(job, number, lambda windows: advance(windows * job.windows.length))

    with stage_progress(job, SURVEY_TITLE, shown) as meter:
        _Stage(job, store, survey.STAGE, surveying, meter).do_all()
    surveyed = merged_survey(job, store)
    tokens = job.windows.length * len(job.windows) / sweep.work(job)

    def sweeping(number: int, advance: Advance) -> Arrays:
        return sweep.sweep_unit(job, number, surveyed, lambda work: advance(work * tokens))

    looks = Looks(job, store)

    def enough() -> bool:
        looks.catch_up()
        meter.say(looks.describe())
        return looks.done

    with stage_progress(job, SWEEP_TITLE, shown) as meter:
        _Stage(job, store, sweep.STAGE, sweeping, meter, enough).do_all()
    log(store.folder, f"swept: {looks.describe()}")


def stage_progress(design: Design, title: str, shown: bool) -> AbstractContextManager[Meter]:
    """Progress over all tokens of a run."""
    return progress(title, design.windows.length * len(design.windows), shown)


def unit_tokens(design: Design, number: int) -> int:
    """Tokens of a unit, padding included: what progress counts."""
    return design.windows.length * len(design.units[number])


def merged_survey(job: Job, store: Store) -> Arrays:
    """Thresholds and means over the whole corpus, from the file of the first worker that came so far."""

    def merging(_number: int, _advance: Advance) -> Arrays:
        finished = store.finished(survey.STAGE)
        return thresholds.thresholds(job, [finished[number] for number in sorted(finished)])

    _Stage(job, store, thresholds.STAGE, merging, Meter(0, lambda _meter: None), units=1).do_all()
    return store.read(store.finished(thresholds.STAGE)[0])


class _Stage:
    """One stage's units.

    Args:
        job: the run.
        store: its finished units.
        stage: which stage.
        unit: does a unit, telling of its progress.
        meter: is told of progress.
        enough: whether no more units are needed; by default when all are there.
        units: how many there are; by default the run's.
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
    ) -> None:
        self.job, self.store, self.stage, self.unit, self.meter = job, store, stage, unit, meter
        self.units = len(job.units) if units is None else units
        self.enough = enough or (lambda: not self._missing())

    def do_all(self) -> None:
        """Does the missing units, in order, and waits for those that others have claimed."""
        counted = set(self.store.sound(self.stage))
        self.meter.already(self._size(counted))
        while not self.enough():
            done_here = set(self._do_missing())
            counted |= done_here
            by_others = set(self.store.finished(self.stage)) - counted
            self.meter.already(self._size(by_others))
            counted |= by_others
            if not done_here:
                time.sleep(_WAIT)
        self.meter(0)

    def _missing(self) -> list[int]:
        return sorted(set(range(self.units)) - set(self.store.finished(self.stage)))

    def _size(self, numbers: set[int]) -> int:
        return sum(unit_tokens(self.job, number) for number in numbers)

    def _do_missing(self) -> Iterator[int]:
        """Numbers of the units that are done here, until there are enough."""
        for number in self._missing():
            if self._do(number):
                yield number
                if self.enough():
                    return

    def _do(self, number: int) -> bool:
        with self.store.claim(self.stage, number) as ours:
            if not ours or number in self.store.finished(self.stage):
                return False
            started = time.monotonic()
            self.store.write(self.stage, number, self.unit(number, self.meter))
            said = f"{self.stage} {number + 1} of {self.units} took {time.monotonic() - started:.1f} s"
            log(self.store.folder, f"{said}; {self.meter.describe()}")
            return True
