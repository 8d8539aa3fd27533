"""Slurm by submitit: an array of jobs that each do units until none is left."""

from __future__ import annotations

from typing import Any

from selfrepair.errors import SelfRepairError
from selfrepair.run.executors.worker import unfinished, work_on
from selfrepair.run.job import Job
from selfrepair.run.store import Store
from selfrepair.run.sweep import STAGE as SWEEP


def run_on_slurm(job: Job, store: Store, workers: int, cluster: str | None = None, **parameters: Any) -> None:
    """Submits `workers` jobs, waits for them, and returns when every unit is there.

    A job that is pre-empted or dies leaves its unit to the others; `selfrepair resume` does what is left.

    Args:
        job: the run.
        store: its finished units; the folder has to be seen by all nodes.
        workers: jobs of the array.
        cluster: submitit's cluster; `slurm` where there is one, `local` processes elsewhere, by default.
        parameters: submitit's, such as `slurm_partition`, `timeout_min`, `gpus_per_node`.

    Raises:
        SelfRepairError: submitit is not installed; jobs failed and left units undone.
    """
    submitit = _submitit()
    executor = submitit.AutoExecutor(folder=store.folder / "slurm", cluster=cluster)
    executor.update_parameters(**{"timeout_min": 24 * 60, "cpus_per_task": 1, **parameters})
    jobs = [executor.submit(work_on, str(store.folder)) for _ in range(workers)]
    try:
        for one in jobs:
            one.exception()  # waits; one that failed leaves its units to the others
    except KeyboardInterrupt:
        for one in jobs:
            one.cancel()
        raise
    if len(store.finished(SWEEP)) < len(job.units):
        raise unfinished("Jobs", job, store)


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise SelfRepairError(
            "The Slurm executor needs the package 'submitit', which is not installed.",
            "Install it: pip install 'selfrepair[slurm]', or use --executor processes.",
        ) from error
    return submitit
