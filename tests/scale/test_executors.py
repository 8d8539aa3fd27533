"""Whoever does the units, and whoever of them is killed: the same result to the bit."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from scale_support import (
    UNITS,
    Killer,
    assert_same,
    in_child,
    resume,
    sweep_units,
    text,
    work_that_fails,
    workers_start_quickly,
)

import selfrepair
from selfrepair import ReplayEngine, SelfRepairError, load, measure
from selfrepair.run.measure import write_design
from selfrepair.run.planning import run_plan
from selfrepair.run.planning.reload import load_job
from selfrepair.run.scheduling.executors import processes
from selfrepair.run.scheduling.executors.ray import run_on_ray
from selfrepair.run.scheduling.executors.slurm import run_on_slurm
from selfrepair.run.scheduling.executors.worker import unfinished_error
from selfrepair.run.storage.store import Store


@pytest.fixture(autouse=True)
def workers_find_the_package(monkeypatch):
    """Ray's and submitit's workers start afresh; they are to import the code under test."""
    monkeypatch.setenv("PYTHONPATH", str(Path(selfrepair.__file__).parents[1]), prepend=os.pathsep)


@pytest.fixture
def started(run):
    """A run as executors get it, and what has to come of it."""
    place, expected = run
    job = load_job(place)
    return job, Store(place, run_plan.identity(job.plan)), expected


def merged(store: Store):
    return resume(store.folder)


@pytest.mark.long
def test_a_process_that_starts_afresh(started):
    job, store, expected = started
    processes.run_in_processes(job, store, 1, shown=False)
    assert (store.folder / "log.txt").read_text().count("worker starts") == 1
    assert_same(merged(store), expected)


@pytest.mark.long
def test_processes_killed_in_mid_unit(run, monkeypatch):
    workers_start_quickly(monkeypatch)
    place, expected = run
    with Killer(place, 1) as killer:
        assert_same(resume(place, workers=2), expected)
    assert len(killer.killed) == 1


def test_workers_without_a_folder_share_a_temporary_one(models, monkeypatch):
    workers_start_quickly(monkeypatch)
    model = load(str(models("gpt2")), device="cpu")
    settings = {"batch": 2, "engine": ReplayEngine(fold=2), "heads": [(2, 0)], "replicates": 5, "progress": False}
    alone, together = (measure(model, text(), workers=workers, **settings) for workers in (1, 2))
    together.plan["created"] = alone.plan["created"]
    same = together.interventions.assign_attrs(created=alone.interventions.attrs["created"])
    assert_same(replace(together, interventions=same), alone)
    assert together.windows.equals(alone.windows) and together.tokens.num_rows > 0


def test_workers_that_always_die_are_given_up(started, monkeypatch):
    job, store, _ = started
    monkeypatch.setattr(processes, "_work", os.abort)
    with pytest.raises(SelfRepairError, match=rf"0 of {UNITS} units are done"):
        processes.run_in_processes(job, store, 2, shown=False)


def test_workers_that_would_fail_again_are_not_tried_again(started, monkeypatch):
    job, store, _ = started
    workers_start_quickly(monkeypatch)
    job.plan["versions"]["torch"] = "0.0.1"
    write_design(job, store.folder)
    with pytest.raises(SelfRepairError, match=r"version of torch: 0\.0\.1 then"):
        processes.run_in_processes(job, store, 1, shown=False)
    assert (store.folder / "log.txt").read_text().count("worker starts") == 1


def test_what_a_worker_failed_at_is_told_by_name(started):
    job, store, _ = started
    worker = in_child(work_that_fails, str(store.folder))
    worker.join(60)
    assert worker.exitcode == processes._HOPELESS
    assert "SelfRepairError: A tale of two lines. Mend it." in unfinished_error("Workers", job, store).problem
    assert not list((store.folder / "units").glob("*.claim"))


@pytest.mark.long
def test_ray_with_an_actor_killed(started):
    ray = pytest.importorskip("ray")
    job, store, expected = started
    with Killer(store.folder, 1) as killer:
        run_on_ray(job, store, workers=2)
    assert not ray.is_initialized()
    assert len(killer.killed) == 1 and len(sweep_units(store.folder)) == UNITS
    assert_same(merged(store), expected)


@pytest.mark.long
def test_submitit_with_a_job_killed(started):
    pytest.importorskip("submitit")
    job, store, expected = started
    with Killer(store.folder, 1) as killer:
        run_on_slurm(job, store, workers=2, cluster="local")
    assert len(killer.killed) == 1 and len(sweep_units(store.folder)) == UNITS
    assert_same(merged(store), expected)
