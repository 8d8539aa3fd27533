"""Unit files that prove themselves, and claims: what counts, what is put aside, who gives way to whom."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time

import numpy as np
import pytest
from scale_support import UNITS, assert_same, prepare, resume, sweep_units

from selfrepair import SelfRepairError
from selfrepair.run import plans, runner
from selfrepair.run.jobs import load_job
from selfrepair.run.store import STALE, Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, "plan")


@pytest.fixture
def half_done(run, monkeypatch):
    """A run whose survey and first units are done."""
    place, expected = run
    job = load_job(place)
    only = Store(place, plans.identity(job.plan))
    write, left = Store.write, UNITS + 1 + 4

    def some(self, *given):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        write(self, *given)

    monkeypatch.setattr(Store, "write", some)
    with pytest.raises(KeyboardInterrupt):
        runner.run_units(job, only, shown=False)
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
    assert not store.is_sound(broken)
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
    (units / "sweep-000006.claim").write_text(json.dumps({"host": socket.gethostname(), "process": dead_process()}))
    (units / "sweep-000007.claim.0123").write_text("taken over, not yet removed")
    started = time.monotonic()
    assert_same(resume(place), expected)
    assert time.monotonic() - started < STALE / 2, "a dead process of this machine need not be waited for"


# ---------------------------------------------------------------------------------------------------- claims


def test_a_claim_is_one_runners(store):
    with store.claim("sweep", 0) as first, store.claim("sweep", 0) as second, store.claim("sweep", 1) as other:
        assert (first, second, other) == (True, False, True)
    with store.claim("sweep", 0) as again:
        assert again
    assert not list(store.units.iterdir())


def test_a_live_claim_of_another_process_is_respected(store):
    claim = left_behind(store, process=os.getppid())
    with store.claim("sweep", 0) as ours:
        assert not ours
    assert claim.is_file()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1, 2]",
        '"text"',
        "null",
        "\0\0\0",
        '{"host": "HERE"}',
        '{"host": "HERE", "process": "x"}',
        '{"host": "HERE", "process": null}',
        '{"host": "HERE", "process": 1e300}',
        '{"host": "HERE", "process": 99999999999999999999999}',
        '{"host": "elsewhere", "process": 1}',
    ],
)
def test_claims_that_say_nothing_count_while_they_are_young(store, content):
    claim = left_behind(store, content.replace("HERE", socket.gethostname()))
    with store.claim("sweep", 0) as young:
        assert not young
    long_ago = time.time() - STALE - 1
    os.utime(claim, (long_ago, long_ago))
    with store.claim("sweep", 0) as old:
        assert old


def test_a_claim_of_a_dead_process_counts_for_nothing(store):
    left_behind(store, process=dead_process())
    with store.claim("sweep", 0) as ours:
        assert ours


def test_a_reused_process_number_delays_no_longer_than_a_stale_claim(store):
    claim = left_behind(store, process=os.getppid())
    os.utime(claim, (0, 0))
    with store.claim("sweep", 0) as ours:
        assert ours


def test_a_runner_shows_signs_of_life(store, monkeypatch):
    monkeypatch.setattr("selfrepair.run.store._BEAT", 0.01)
    with store.claim("sweep", 0):
        claim = store.units / "sweep-000000.claim"
        os.utime(claim, (0, 0))
        deadline = time.monotonic() + 5
        while claim.stat().st_mtime < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.time() - claim.stat().st_mtime < STALE


def left_behind(store, content: str | None = None, process: int = 0):
    store.units.mkdir(exist_ok=True)
    claim = store.units / "sweep-000000.claim"
    claim.write_text(json.dumps({"host": socket.gethostname(), "process": process}) if content is None else content)
    return claim


def dead_process() -> int:
    gone = subprocess.Popen(["true"])
    gone.wait()
    return gone.pid
