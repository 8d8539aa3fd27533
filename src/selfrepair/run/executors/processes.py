"""Several processes on this machine, started afresh where one dies."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.process import BaseProcess

from selfrepair.errors import SelfRepairError
from selfrepair.progress import progress
from selfrepair.run.executors.worker import LOG, work_on
from selfrepair.run.job import Job
from selfrepair.run.store import Store
from selfrepair.run.sweep import STAGE as SWEEP

_RESTARTS = 3  # per worker; a unit that kills whoever touches it must not be tried for ever
_LOOK = 0.5  # seconds


def run_in_processes(job: Job, store: Store, workers: int, shown: bool = True) -> None:
    """Does all missing units with `workers` processes; returns when every unit is there.

    Raises:
        SelfRepairError: workers kept failing; their log says why.
    """
    start = multiprocessing.get_context("spawn").Process
    running: list[BaseProcess] = []

    def another() -> BaseProcess:
        process = start(target=work_on, args=(str(store.folder),), daemon=True)
        process.start()
        return process

    try:
        running = [another() for _ in range(workers)]
        left = workers * _RESTARTS
        with progress("Sweep (ablated runs)", len(job.units), shown) as advance:
            seen = 0
            while any(process.is_alive() for process in running):
                time.sleep(_LOOK)
                done = len(store.finished(SWEEP))
                advance(done - seen)
                seen = done
                for place, process in enumerate(running):
                    if not process.is_alive() and process.exitcode != 0 and left > 0:
                        running[place], left = another(), left - 1
            advance(len(store.finished(SWEEP)) - seen)
    finally:
        for process in running:
            process.terminate()
            process.join()
    if len(store.finished(SWEEP)) < len(job.units):
        raise SelfRepairError(
            f"Workers failed {_RESTARTS} times each; {len(store.finished(SWEEP))} of {len(job.units)} units are done.",
            f"{store.folder / LOG} says why; `selfrepair resume` goes on from what is done.",
        )
