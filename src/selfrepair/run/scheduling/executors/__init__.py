"""Who does the units of a run: this process, processes of this machine, Ray actors, Slurm jobs.

All run the same loop over the same folder, so a result does not depend on which.
"""

from __future__ import annotations

from collections.abc import Callable

from selfrepair.errors import SelfRepairError
from selfrepair.run.planning.job import Job
from selfrepair.run.planning.reload import require_built_in
from selfrepair.run.storage.store import Store

EXECUTORS = ("processes", "ray", "slurm")


def execute(job: Job, store: Store, executor: str, workers: int, shown: bool) -> None:
    """Does all missing units of a run with `workers` workers of the named kind.

    Raises:
        SelfRepairError: unknown executor; a model without a name or an operator of the user's, which workers could
            not load; failing workers.
    """
    from selfrepair.run.scheduling.executors.processes import run_in_processes
    from selfrepair.run.scheduling.executors.ray import run_on_ray
    from selfrepair.run.scheduling.executors.slurm import run_on_slurm

    if job.plan["model"]["source"] is None:
        raise SelfRepairError(
            "Workers each load the model by its name; this one came from memory.",
            "Save it with save_pretrained and load the folder, or use one worker.",
        )
    require_built_in(job.plan)
    runs: dict[str, Callable[[], None]] = {
        "processes": lambda: run_in_processes(job, store, workers, shown),
        "ray": lambda: run_on_ray(job, store, workers, shown=shown),
        "slurm": lambda: run_on_slurm(job, store, workers, shown=shown),
    }
    if executor not in runs:
        raise SelfRepairError(f"No executor is called '{executor}'.", f"There are: {', '.join(EXECUTORS)}.")
    runs[executor]()
