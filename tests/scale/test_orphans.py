"""Workers whose driver was killed end by themselves; what is renamed is flushed, folder included."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from pathlib import Path

import pytest
from scale_support import UNITS, fork, in_child

from selfrepair.results import atomic_files
from selfrepair.run.planning import run_plan
from selfrepair.run.planning.reload import load_job
from selfrepair.run.scheduling.executors import processes
from selfrepair.run.scheduling.executors.driver import end_with_driver
from selfrepair.run.storage.claim_holder import Holder, _started
from selfrepair.run.storage.store import Store

SOON = 20.0  # seconds; a worker notices at once, or within a second, where the machine has time for it


def drive(place: str) -> None:
    processes.multiprocessing.get_context = lambda _method: fork
    job = load_job(Path(place))
    processes.run_in_processes(job, Store(Path(place), run_plan.identity(job.plan)), 2, shown=False)


def watch_over(folder: str, driver: Holder) -> None:
    end_with_driver(Path(folder), driver)
    time.sleep(600)


def idle() -> None:
    time.sleep(600)


def until(true) -> bool:
    deadline = time.monotonic() + SOON
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(true())


def at_work(log: Path) -> list[int]:
    """Processes of this run's workers that have begun."""
    lines = log.read_text().splitlines() if log.is_file() else []
    return [int(line.split()[3]) for line in lines if line.endswith("worker starts")]


def ended(process: int) -> bool:
    return _started(process) in (None, 0)


@pytest.mark.long
def test_workers_end_when_their_driver_is_killed(run):
    place, _ = run
    (place / "units").mkdir()
    for number in range(UNITS):  # ours: the workers wait for us
        (place / "units" / f"survey-{number:06d}.0123.claim").write_text(json.dumps(Holder.me().described()))
    driver = in_child(drive, str(place))
    assert until(lambda: len(at_work(place / "log.txt")) == 2)
    workers = at_work(place / "log.txt")
    assert not any(map(ended, workers))
    os.kill(driver.pid, signal.SIGKILL)
    driver.join()
    assert until(lambda: all(map(ended, workers))), "they go on without anybody waiting for them"
    assert (place / "log.txt").read_text().count("the process that started it has gone") == 2


def test_a_worker_that_was_started_otherwise_ends_with_the_driver_it_was_told_of(tmp_path):
    driver = in_child(idle)
    worker = in_child(watch_over, str(tmp_path), Holder(**{**Holder.me().described(), **of(driver.pid)}))
    assert until(lambda: not ended(worker.pid))
    os.kill(driver.pid, signal.SIGKILL)
    driver.join()
    worker.join(SOON)
    assert worker.exitcode not in (None, 0)


def of(process: int) -> dict[str, object]:
    return {"process": process, "started": _started(process)}


@pytest.fixture
def steps(monkeypatch):
    """What is flushed and renamed, in order."""
    seen: list[str] = []
    sync, replace = os.fsync, Path.replace

    def fsync(number):
        kind = "folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "file"
        seen.append(f"flush {kind}")
        sync(number)

    def renaming(path, target):
        seen.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", renaming)
    return seen


def test_a_renamed_file_outlasts_a_power_cut(tmp_path, steps):
    atomic_files.put(tmp_path / "plan.json", b"{}")
    assert steps == ["flush file", "rename", "flush folder"]


def test_a_unit_outlasts_a_power_cut(tmp_path, steps):
    import numpy as np

    Store(tmp_path, "plan").write("sweep", 0, {"a": np.zeros(2)})
    assert steps == ["flush folder", "flush file", "rename", "flush folder"], "that of the new folder too"


def test_a_disk_that_flushes_no_folders_is_no_reason_to_stop(tmp_path, monkeypatch):
    sync = os.fsync

    def fsync(number):
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(22, "Invalid argument")
        sync(number)

    monkeypatch.setattr(os, "fsync", fsync)
    atomic_files.put(tmp_path / "plan.json", b"{}")
    assert (tmp_path / "plan.json").read_bytes() == b"{}"
