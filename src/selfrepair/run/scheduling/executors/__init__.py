"""Who does the units of a run: this process, processes of this machine, Ray actors, Slurm jobs.

All run the same loop over the same folder, so a result does not depend on which.
"""

from __future__ import annotations

from collections.abc import Callable

from selfrepair import choices
from selfrepair.choices import HERE as HERE
from selfrepair.errors import SelfRepairError
from selfrepair.registry import Registry
from selfrepair.run.planning.job import Job
from selfrepair.run.planning.reload import require_by_name
from selfrepair.run.storage.store import Store

EXECUTORS: Registry[Callable[..., None]] = choices.EXECUTORS
"""Each is called with the job, its store, the number of workers and `shown=`; it returns when every unit is there."""


def execute(job: Job, store: Store, executor: str, workers: int, shown: bool) -> None:
    """Does all missing units of a run with `workers` workers of the named kind.

    Raises:
        SelfRepairError: unknown executor; a model without a name or an operator of the user's, which workers could
            not load; failing workers.
    """
    run = EXECUTORS[executor]
    if job.plan["model"]["source"] is None:
        raise SelfRepairError(
            "Workers each load the model by its name; this one came from memory.",
            "Save it with save_pretrained and load the folder, or use one worker.",
        )
    require_by_name(job.plan)
    run(job, store, workers, shown=shown)
