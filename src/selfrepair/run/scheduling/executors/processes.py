"""Runs workers as processes on this machine; one that dies is replaced."""

from __future__ import annotations

import multiprocessing
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from selfrepair.errors import SelfRepairError
from selfrepair.run.planning.job import Job
from selfrepair.run.scheduling.early_stopping import UnitsSoFar
from selfrepair.run.scheduling.executors.driver import end_with_driver
from selfrepair.run.scheduling.executors.watch import Watch
from selfrepair.run.scheduling.executors.worker import unfinished_error, work_on
from selfrepair.run.storage.store import Store

_RESTARTS = 3  # per worker; a unit that kills its worker must not be tried forever
_LOOK = 0.5  # seconds
_HOPELESS = 3  # exit code of a worker that would fail the same way again


def run_in_processes(job: Job, store: Store, workers: int, shown: bool = True) -> None:
    """Does all missing units with `workers` processes; returns when every unit is there.

    Raises:
        SelfRepairError: workers kept failing; gives the last one's reason.
    """
    start = multiprocessing.get_context("spawn").Process
    running: list[BaseProcess] = []
    left = workers * _RESTARTS

    def another() -> BaseProcess:
        process = start(target=_work, args=(str(store.folder),), daemon=True)
        process.start()
        return process

    def at_work(slot: int) -> bool:
        """Whether a worker is at work in this slot; replaces one that has died."""
        nonlocal left
        if running[slot].is_alive():
            return True
        if running[slot].exitcode in (0, _HOPELESS) or left == 0:
            return False
        running[slot], left = another(), left - 1
        return True

    try:
        running.extend(another() for _ in range(workers))
        with Watch(job, store, shown) as watch:
            while any([at_work(slot) for slot in range(workers)]):  # noqa: C419  (every slot is looked at)
                time.sleep(_LOOK)
                watch.look()
    finally:
        for process in running:
            process.terminate()
            process.join()
    if not UnitsSoFar(job, store).catch_up().done:
        raise unfinished_error("Workers", job, store)


def _work(folder: str) -> None:
    end_with_driver(Path(folder))
    try:
        work_on(folder)
    except SelfRepairError:  # the log has it
        sys.exit(_HOPELESS)
