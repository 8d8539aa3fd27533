"""What every worker does, wherever it runs: load the run from its folder and do units until none is left."""

from __future__ import annotations

import logging
from pathlib import Path

from selfrepair.run import plans
from selfrepair.run.jobs import load_job
from selfrepair.run.runner import run_units
from selfrepair.run.store import Store

LOG = "log.txt"


def work_on(folder: str) -> None:
    """Does units of the run in `folder` until all are done, by this worker or others.

    Safe to start any number of times, on any machine that sees the folder.
    """
    path = Path(folder)
    logging.basicConfig(
        filename=path / LOG, level=logging.INFO, format="%(asctime)s %(process)d %(message)s", force=True
    )
    log = logging.getLogger("selfrepair")
    log.info("worker starts")
    try:
        job = load_job(path)
        run_units(job, Store(path, plans.identity(job.plan)), shown=False)
    except BaseException as problem:
        log.info("worker stops: %s: %s", type(problem).__name__, problem)
        raise
    log.info("worker is done")
