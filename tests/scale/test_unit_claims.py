"""Claims: a unit is one runner's at a time, whatever the order in which runners get to their steps."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from scale_support import dead_process, fork

import selfrepair
from selfrepair.run.storage import store, unit_claims
from selfrepair.run.storage.claim_holder import Holder, _started
from selfrepair.run.storage.store import Store
from selfrepair.run.storage.unit_claims import STALE

UNIT = "sweep-000000"
ME = Holder.me()
unshared = pytest.mark.skipif(
    subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True).returncode != 0
    if sys.platform == "linux"
    else True,
    reason="making a PID namespace is not allowed here",
)


@pytest.fixture
def units(tmp_path):
    return Store(tmp_path, "plan")


def left_behind(units: Store, content: object = None, age: float = 0, token: str = "0123") -> Path:
    """A claim of somebody who has gone, or is elsewhere."""
    units.units.mkdir(exist_ok=True)
    path = units.units / f"{UNIT}.{token}.claim"
    path.write_text(content if isinstance(content, str) else json.dumps((content or dead_process()).described()))
    now = time.time()
    os.utime(path, (now - age, now - age))
    return path


def is_free(units: Store) -> bool:
    with units.claim("sweep", 0) as ours:
        return ours


# ------------------------------------------------------------------------------------------------ one at a time


def test_a_claim_is_one_runners(units):
    with units.claim("sweep", 0) as first, units.claim("sweep", 0) as second, units.claim("sweep", 1) as other:
        assert (first, second, other) == (True, False, True)
    assert is_free(units)
    assert not list(units.units.iterdir())


class Turns:
    """Lets threads go on line by line, in an order drawn by a seed: every interleaving of the steps of claims."""

    def __init__(self, seed: int) -> None:
        self.draws, self.lock = random.Random(seed), threading.Condition()
        self.switch = (0.03, 0.1, 0.3)[seed % 3]  # long stretches of one, or short ones
        self.waiting: set[int] = set()
        self.running: set[int] = set()

    def run(self, *works) -> None:
        threads = [threading.Thread(target=self._thread, args=(n, one)) for n, one in enumerate(works)]
        self.running = set(range(len(works)))
        for thread in threads:
            thread.start()
        last = 0
        with self.lock:
            while self.running:
                self.lock.wait_for(lambda: self.waiting == self.running)
                if not self.running:
                    break
                if last not in self.running or self.draws.random() < self.switch:
                    last = self.draws.choice(sorted(self.running))
                self.waiting.discard(last)
                self.lock.notify_all()
        for thread in threads:
            thread.join()

    def _thread(self, number: int, work) -> None:
        self._wait(number)
        sys.settrace(lambda frame, event, _: self._traced(number, frame, event))
        try:
            work()
        finally:
            sys.settrace(None)
            with self.lock:
                self.running.discard(number)
                self.lock.notify_all()

    def _traced(self, number: int, frame, event):
        if frame.f_code.co_filename not in {unit_claims.__file__, store.__file__} or frame.f_code.co_name == "_beat":
            return None
        if event == "line":
            self._wait(number)
        return lambda frame, event, _: self._traced(number, frame, event)

    def _wait(self, number: int) -> None:
        with self.lock:
            self.waiting.add(number)
            self.lock.notify_all()
            self.lock.wait_for(lambda: number not in self.waiting)


@pytest.mark.long
@pytest.mark.parametrize("takers", [2, 3])
def test_no_interleaving_lets_two_own_a_dead_claim(tmp_path, takers, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    owned = 0
    for seed in range(150):
        units = Store(tmp_path / str(seed), "plan")
        units.folder.mkdir()
        left_behind(units, replace(ME, place=None), age=STALE + 1)
        owners: list[int] = []
        holding = [0, 0]  # now, and at most

        def take(units=units, owners=owners, holding=holding):
            with units.claim("sweep", 0) as ours:
                if ours:
                    owners.append(1)
                    holding[0] += 1
                    holding[1] = max(holding)
                    for _ in range(20):
                        units.finished("sweep")  # takes a while, in turns with the others
                    holding[0] -= 1

        Turns(seed).run(*[take] * takers)
        assert holding[1] <= 1, f"two owned it at a time, with seed {seed}"
        assert not list(units.units.iterdir()), "claims are left"
        owned += bool(owners)
    assert owned > 120, "somebody gets it, nearly always"


def compete(place: str, ready, held, clashes, wins, rounds: int) -> None:
    units = Store(Path(place), "plan")
    for number in range(rounds):
        ready.wait()
        with units.claim("sweep", number) as ours:
            if ours:
                if not held.acquire(block=False):
                    clashes.value += 1
                else:
                    time.sleep(0.002)
                    held.release()
                wins.value += 1
        ready.wait()


def test_processes_that_want_the_same_dead_claims(tmp_path):
    takers, rounds = 6, 60
    units = Store(tmp_path, "plan")
    units.units.mkdir()
    dead = json.dumps(dead_process().described())
    for number in range(rounds):
        (units.units / f"sweep-{number:06d}.0123.claim").write_text(dead)
    ready, held = fork.Barrier(takers), fork.Semaphore(1)
    clashes, wins = fork.Value("i", 0), fork.Value("i", 0)
    processes = [
        fork.Process(target=compete, args=(str(tmp_path), ready, held, clashes, wins, rounds)) for _ in range(takers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert clashes.value == 0
    assert wins.value >= rounds * 0.9


def test_releasing_removes_no_other_runners_claim(units):
    with units.claim("sweep", 0) as first:
        assert first
        (stalled,) = units.units.iterdir()
        os.utime(stalled, (0, 0))  # as if its machine had slept
        second = units.claim("sweep", 0)
        assert second.__enter__() is True, "it counts as dead"
    assert len(list(units.units.glob("*.claim"))) == 1, "the first has removed the second's"
    assert not is_free(units)
    second.__exit__(None, None, None)
    assert is_free(units)


def test_a_runner_that_was_taken_for_dead_while_it_looked_around_gives_way(units, monkeypatch):
    looks, real = [], unit_claims._claims

    def slow(folder, name):
        looks.append(name)
        if len(looks) == 2:  # between announcing itself and looking around
            (mine,) = folder.iterdir()
            mine.unlink()
            left_behind(units, replace(ME, place=None))
        return real(folder, name)

    monkeypatch.setattr(unit_claims, "_claims", slow)
    assert not is_free(units)


# -------------------------------------------------------------------------------------------- who counts as dead


def test_a_live_claim_of_another_process_is_respected(units):
    claim = left_behind(units, replace(ME, process=os.getppid(), started=_started(os.getppid())))
    assert not is_free(units)
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
        "[" * 5000,
        "x" * 10_000,
        '{"host": "HERE"}',
        '{"host": "HERE", "process": "x", "place": "PLACE", "started": 1}',
        '{"host": "HERE", "process": null, "place": "PLACE", "started": 1}',
        '{"host": "HERE", "process": true, "place": "PLACE", "started": 1}',
        '{"host": "HERE", "process": 0, "place": "PLACE", "started": 1}',
        '{"host": "HERE", "process": -1, "place": "PLACE", "started": 1}',
        '{"host": "HERE", "process": 1e300, "place": "PLACE", "started": 1}',
        '{"host": "HERE", "process": 99999999999999999999999, "place": "PLACE", "started": 1}',
        '{"host": "elsewhere", "process": 1}',
    ],
)
@pytest.mark.parametrize("ahead", [False, True])
def test_claims_that_say_nothing_count_while_they_are_young(units, content, ahead):
    content = content.replace("HERE", ME.host).replace("PLACE", str(ME.place))
    left_behind(units, content)
    assert not is_free(units)
    left_behind(units, content, age=-(STALE + 1) if ahead else STALE + 1)
    assert is_free(units)


def test_a_claim_of_a_dead_process_counts_for_nothing(units):
    left_behind(units, dead_process())
    assert is_free(units)


def test_a_process_that_has_ended_and_is_not_yet_waited_for_is_dead(units):
    process = subprocess.Popen(["sleep", "60"])
    holder = replace(ME, process=process.pid, started=_started(process.pid))
    assert holder.lives() is True
    process.kill()
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert holder.lives() is False
    process.wait()


def test_a_number_that_was_given_to_another_process_is_dead(units):
    left_behind(units, replace(ME, started=ME.started - 1))
    assert is_free(units)


@pytest.mark.parametrize("seconds", [STALE + 1, 3600, 1e9])
def test_a_claim_from_the_future_is_not_alive_for_ever(units, seconds):
    """It is of no living process that could tell, and its clock is of no use."""
    left_behind(units, replace(ME, place="another machine"), age=-seconds)
    assert is_free(units)


def test_a_clock_that_was_set_back_takes_nothing_from_a_living_runner(units):
    left_behind(units, ME, age=-3600)
    assert not is_free(units)


def test_a_claim_a_little_ahead_of_the_clock_is_alive(units):
    left_behind(units, replace(ME, place="another machine"), age=-STALE / 2)
    assert not is_free(units)


def test_the_disks_clock_counts_and_not_the_machines(units, monkeypatch):
    """A machine whose clock is an hour ahead of the file server's takes nobody's claim."""
    left_behind(units, replace(ME, place="another machine"))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    assert not is_free(units)


def test_a_process_of_another_namespace_is_not_taken_for_dead(units):
    """Its number means nothing here, though the host's name is the same."""
    elsewhere = replace(dead_process(), place="the same boot pid:[4026531999]")
    claim = left_behind(units, elsewhere)
    assert not is_free(units)
    os.utime(claim, (0, 0))
    assert is_free(units), "it has shown no sign of life"


HOLD = """
import sys
from pathlib import Path
from selfrepair.run.storage.store import Store
with Store(Path(sys.argv[1]), "plan").claim("sweep", 0) as ours:
    print(ours, flush=True)
    sys.stdin.read()
"""


@unshared
@pytest.mark.parametrize("options", [(), ("--mount-proc",)])
def test_a_runner_in_a_container_of_this_machine_is_respected(units, options):
    units.units.mkdir()
    command = ["unshare", "--pid", "--fork", *options, sys.executable, "-c", HOLD, str(units.folder)]
    environment = {**os.environ, "PYTHONPATH": str(Path(selfrepair.__file__).parents[1])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as inside:
        assert inside.stdout.readline() == "True\n"
        assert not is_free(units)
        inside.communicate("")
    assert is_free(units)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_stops_nobody(units, make):
    units.units.mkdir()
    odd = units.units / f"{UNIT}.0123.claim"
    make(odd)
    assert not is_free(units), "as long as it is young, somebody may be at it"
    os.utime(odd, (0, 0))
    assert is_free(units)


def test_a_runner_shows_signs_of_life(units, monkeypatch):
    monkeypatch.setattr(unit_claims, "_BEAT", 0.01)
    with units.claim("sweep", 0):
        (claim,) = units.units.iterdir()
        os.utime(claim, (0, 0))
        deadline = time.monotonic() + 5
        while claim.stat().st_mtime < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.time() - claim.stat().st_mtime < STALE
