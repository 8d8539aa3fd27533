"""Runs workers as Ray actors that hold the model, one per device or group of devices, restarted if one dies."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from selfrepair.errors import SelfRepairError
from selfrepair.run.planning.job import Job
from selfrepair.run.scheduling.early_stopping import UnitsSoFar
from selfrepair.run.scheduling.executors.watch import Watch
from selfrepair.run.scheduling.executors.worker import unfinished_error, work_on
from selfrepair.run.storage.store import Store

_RESTARTS = 3
_LOOK = 0.5  # seconds


def run_on_ray(
    job: Job,
    store: Store,
    workers: int,
    gpus_per_worker: float = 0,
    address: str | None = None,
    shown: bool = False,
) -> None:
    """Does all missing units with `workers` actors; the folder has to be seen by all of their machines.

    Args:
        job: the run.
        store: its finished units.
        workers: how many actors.
        gpus_per_worker: GPUs each actor holds; more than one for models that need several.
        address: address of a running cluster; by default one is started on this machine and stopped at the end.
        shown: whether to show progress.

    Raises:
        SelfRepairError: Ray is not installed; actors kept failing.
    """
    ray = _ray()
    started_here = not ray.is_initialized()
    if started_here:
        ours = address is None and "RAY_ADDRESS" not in os.environ  # an existing cluster has its own resources
        ray.init(address=address, num_cpus=max(workers, 1) if ours else None, log_to_driver=False)
    try:
        actor = ray.remote(max_restarts=_RESTARTS, max_task_retries=_RESTARTS, num_cpus=1, num_gpus=gpus_per_worker)(
            _Worker
        )
        actors = [actor.remote() for _ in range(workers)]
        with Watch(job, store, shown) as watch:
            _wait(ray, [actor.work_on.remote(str(store.folder)) for actor in actors], watch)
    finally:
        if started_here:
            ray.shutdown()
    if not UnitsSoFar(job, store).catch_up().done:
        raise unfinished_error("Ray actors", job, store)


class _Worker:
    def work_on(self, folder: str) -> None:
        work_on(folder)


def _wait(ray: Any, tasks: list[Any], watch: Watch) -> None:
    """Waits for all; an actor that failed for good leaves its units to the others."""
    while tasks:
        ready, tasks = ray.wait(tasks, timeout=_LOOK)
        for task in ready:
            with suppress(ray.exceptions.RayError):
                ray.get(task)
        watch.look()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise SelfRepairError(
            "The Ray executor needs the package 'ray', which is not installed.",
            "Install it: pip install 'selfrepair[ray]', or use --executor processes.",
        ) from error
    return ray
