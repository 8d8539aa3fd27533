"""The main function of every worker: loads the run from its folder and does units until none is left."""

from __future__ import annotations

from pathlib import Path

from selfrepair.errors import SelfRepairError
from selfrepair.run.planning import run_plan
from selfrepair.run.planning.job import Job
from selfrepair.run.planning.reload import load_job
from selfrepair.run.scheduling.early_stopping import UnitsSoFar
from selfrepair.run.scheduling.unit_loop import run_units
from selfrepair.run.storage.log import LOG, last_lines, log
from selfrepair.run.storage.store import Store
from selfrepair.run.unit.sweep import CutShort

_STOPS = "worker stops: "


def work_on(folder: str) -> None:
    """Does units of the run in `folder` until all are done, by this worker or others.

    Safe to start any number of times, on any machine that sees the folder.
    """
    path = Path(folder)
    log(path, "worker starts")
    try:
        job = load_job(path)
        run_units(job, Store(path, run_plan.identity(job.plan)), shown=False)
    except BaseException as raised:
        problem = raised.__cause__ or raised if isinstance(raised, CutShort) else raised
        log(path, f"{_STOPS}{type(problem).__name__}: {problem}")
        raise problem from None
    log(path, "worker is done")


def unfinished_error(workers: str, job: Job, store: Store) -> SelfRepairError:
    """The error to raise if all workers have ended and units are missing; it has the last worker's problem.

    Args:
        workers: their name, for the message.
        job: the run.
        store: its finished units.
    """
    so_far = UnitsSoFar(job, store).catch_up()
    stops = [line.partition(_STOPS)[2] for line in last_lines(store.folder) if _STOPS in line]
    last_problem = f" The last problem was {stops[-1]}" if stops else ""
    return SelfRepairError(
        f"{workers} kept failing; {len(so_far.used)} of {so_far.needed} units are done.{last_problem}",
        f"{store.folder / LOG} says more; `selfrepair resume` goes on from what is done.",
    )
