"""What every worker does, wherever it runs: load the run from its folder and do units until none is left."""

from __future__ import annotations

from pathlib import Path

from selfrepair.errors import SelfRepairError
from selfrepair.run import plans
from selfrepair.run.job import Job
from selfrepair.run.jobs import load_job
from selfrepair.run.log import LOG, last_lines, log
from selfrepair.run.looks import Looks
from selfrepair.run.runner import run_units
from selfrepair.run.store import Store
from selfrepair.run.sweep import CutShort

_STOPS = "worker stops: "


def work_on(folder: str) -> None:
    """Does units of the run in `folder` until all are done, by this worker or others.

    Safe to start any number of times, on any machine that sees the folder.
    """
    path = Path(folder)
    log(path, "worker starts")
    try:
        job = load_job(path)
        run_units(job, Store(path, plans.identity(job.plan)), shown=False)
    except BaseException as raised:
        problem = raised.__cause__ or raised if isinstance(raised, CutShort) else raised
        log(path, f"{_STOPS}{type(problem).__name__}: {problem}")
        raise problem from None
    log(path, "worker is done")


def unfinished(workers: str, job: Job, store: Store) -> SelfRepairError:
    """What to raise when all workers have ended and units are missing: the last problem that one of them met.

    Args:
        workers: what they are called.
        job: the run.
        store: its finished units.
    """
    looks = Looks(job, store).catch_up()
    stops = [line.partition(_STOPS)[2] for line in last_lines(store.folder) if _STOPS in line]
    said = f" The last problem was {stops[-1]}" if stops else ""
    return SelfRepairError(
        f"{workers} kept failing; {len(looks.used)} of {looks.needed} units are done.{said}",
        f"{store.folder / LOG} says more; `selfrepair resume` goes on from what is done.",
    )
