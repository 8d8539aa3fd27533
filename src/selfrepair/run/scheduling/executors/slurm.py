"""Runs workers as an array of Slurm jobs, by submitit; each does units until none is left."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from selfrepair.errors import SelfRepairError
from selfrepair.run.planning.job import Job
from selfrepair.run.scheduling.early_stopping import UnitsSoFar
from selfrepair.run.scheduling.executors.driver import end_with_driver
from selfrepair.run.scheduling.executors.watch import Watch
from selfrepair.run.scheduling.executors.worker import unfinished_error, work_on
from selfrepair.run.storage.claim_holder import Holder
from selfrepair.run.storage.store import Store

_LOOK = 0.5  # seconds


def run_on_slurm(
    job: Job, store: Store, workers: int, cluster: str | None = None, shown: bool = False, **parameters: Any
) -> None:
    """Submits `workers` jobs, waits for them, and returns when every unit is there.

    A job that is pre-empted or dies leaves its unit to the others; `selfrepair resume` does what is left.

    Args:
        job: the run.
        store: its finished units; the folder has to be seen by all nodes.
        workers: how many jobs the array has.
        cluster: submitit's cluster; `slurm` where there is one, `local` processes elsewhere, by default.
        shown: whether to show progress.
        parameters: submitit's parameters, such as `slurm_partition`, `timeout_min`, `gpus_per_node`.

    Raises:
        SelfRepairError: submitit is not installed; jobs failed and left units undone.
    """
    submitit = _submitit()
    executor = submitit.AutoExecutor(folder=store.folder / "slurm", cluster=cluster)
    executor.update_parameters(**{"timeout_min": 24 * 60, "cpus_per_task": 1, **parameters})
    driver = Holder.me() if executor.cluster == "local" else None  # jobs of a cluster are meant to outlive it
    jobs = [executor.submit(_work, str(store.folder), driver) for _ in range(workers)]
    try:
        with Watch(job, store, shown) as watch:
            while not all(submitted.done() for submitted in jobs):  # one that failed leaves its units to the others
                time.sleep(_LOOK)
                watch.look()
    except KeyboardInterrupt:
        for submitted in jobs:
            submitted.cancel()
        raise
    if not UnitsSoFar(job, store).catch_up().done:
        raise unfinished_error("Jobs", job, store)


def _work(folder: str, driver: Holder | None) -> None:
    if driver is not None:
        end_with_driver(Path(folder), driver)
    work_on(folder)


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise SelfRepairError(
            "The Slurm executor needs the package 'submitit', which is not installed.",
            "Install it: pip install 'selfrepair[slurm]', or use --executor processes.",
        ) from error
    return submitit
