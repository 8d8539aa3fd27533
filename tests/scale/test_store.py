"""Unit files that prove themselves: what counts, and what is put aside."""

from __future__ import annotations

import json
import shutil
import time

import numpy as np
import pytest
from scale_support import UNITS, assert_same, dead_process, prepare, resume, sweep_units

from selfrepair import SelfRepairError
from selfrepair.results.proven import Damaged
from selfrepair.run.planning import run_plan
from selfrepair.run.planning.reload import load_job
from selfrepair.run.scheduling import unit_loop
from selfrepair.run.storage.store import Store
from selfrepair.run.storage.unit_claims import STALE


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, "plan")


@pytest.fixture
def half_done(run, monkeypatch):
    """A run whose survey and first units are done."""
    place, expected = run
    job = load_job(place)
    only = Store(place, run_plan.identity(job.plan))
    write, left = Store.write, UNITS + 1 + 4

    def some(self, *given):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        write(self, *given)

    monkeypatch.setattr(Store, "write", some)
    with pytest.raises(KeyboardInterrupt):
        unit_loop.run_units(job, only, shown=False)
    monkeypatch.undo()
    assert len(sweep_units(place)) == 4
    return place, expected


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {
    "one bit": flipped,
    "cut short": lambda content: content[:-7],
    "empty": lambda content: b"",
    "longer": lambda content: content + b"\0",
    "something else": lambda content: b"{}" * 500,
}


@pytest.mark.parametrize("stage", ["survey", "thresholds", "sweep"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_units_are_put_aside(store, stage, damage):
    for number in range(3):
        store.write(stage, number, {"a": np.arange(50.0) + number})
    broken = store.finished(stage)[1].path
    broken.write_bytes(DAMAGES[damage](broken.read_bytes()))
    with pytest.raises(Damaged):
        store.prove(broken)
    assert set(store.sound(stage)) == {0, 2} == set(store.finished(stage))
    assert broken.with_suffix(".aside").is_file()


def test_damaged_units_are_done_again(half_done):
    place, expected = half_done
    for place_in_list, damage in zip((0, 2), ("one bit", "cut short"), strict=True):
        path = sweep_units(place)[place_in_list]
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    survey = sorted((place / "units").glob("survey-*"))[3]
    survey.write_bytes(b"")
    assert_same(resume(place), expected)
    assert len(list((place / "units").glob("*.aside"))) == 3
    assert len(sweep_units(place)) == UNITS


def test_units_of_another_plan_do_not_count(half_done, models, tmp_path):
    place, expected = half_done
    other = prepare(tmp_path / "other", models("gpt2"), seed=1)
    resume(other)
    for path in sweep_units(other):
        shutil.copy(path, place / "units")
    assert_same(resume(place), expected)


def test_a_foreign_unit_beside_ours_never_takes_its_place(store):
    """Whatever its name sorts like: what is not ours does not count and stays where it is, which is said."""
    store.write("sweep", 0, {"a": np.zeros(3)})
    ours = store.finished("sweep")[0].path
    for foreign_id in "bcdefgh":
        Store(store.folder, foreign_id).write("sweep", 0, {"a": np.ones(3)})
    assert {number: unit.path for number, unit in store.sound("sweep").items()} == {0: ours}
    assert "7 units" in store.strangers() and "another plan" in store.strangers()
    assert len(store.foreign()) == 7
    ours.unlink()
    assert store.finished("sweep") == {}
    with pytest.raises(SelfRepairError, match="All 7 finished units"):
        store.strangers()


def test_a_unit_under_another_units_name_does_not_count(store):
    store.write("sweep", 0, {"a": np.zeros(3)})
    path = store.finished("sweep")[0].path
    shutil.copy(path, path.with_name(path.name.replace("000000", "000001")))
    shutil.copy(path, path.with_name(path.name.replace("sweep", "survey")))
    assert set(store.sound("sweep")) == {0}
    assert store.sound("survey") == {}


def test_the_same_unit_is_the_same_file(store):
    for _ in range(20):
        store.write("sweep", 3, {"b": np.ones(2), "a": np.zeros(3, np.int32)})
    assert len(list(store.units.iterdir())) == 1


def test_what_dead_processes_leave_behind_is_in_nobodys_way(half_done):
    place, expected = half_done
    units = place / "units"
    (units / f".sweep-000005-{'0' * 32}.safetensors.abc").write_bytes(b"half a unit")
    (units / "sweep-000006.0123.claim").write_text(json.dumps(dead_process().described()))
    started = time.monotonic()
    assert_same(resume(place), expected)
    assert time.monotonic() - started < STALE / 2, "a dead process of this machine need not be waited for"
