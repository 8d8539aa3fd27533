"""Tiny runs that the tests of this folder start, kill, garble and compare."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np

from selfrepair import SelfRepairError, Windows, load
from selfrepair.engine import ReplayEngine
from selfrepair.results.runs import Run
from selfrepair.run import measure as measuring
from selfrepair.run.planning import batch_size, run_plan
from selfrepair.run.planning import prepare as preparing
from selfrepair.run.planning.reload import load_job
from selfrepair.run.planning.settings import Settings
from selfrepair.run.scheduling import unit_loop
from selfrepair.run.scheduling.executors import processes
from selfrepair.run.storage import unit_claims
from selfrepair.run.storage.claim_holder import Holder, _started
from selfrepair.run.storage.store import Store
from selfrepair.run.unit import survey, sweep
from selfrepair.statistics.filters import DEFAULT_FILTERS

PAPERS_FAMILIES = ("gpt2", "gpt_neox_parallel", "llama", "opt")
WINDOWS, LENGTH, PER_DOCUMENT, BATCH = 16, 12, 2, 2
VOCAB = 97
PATIENCE = 1.0  # seconds
UNITS = WINDOWS // BATCH  # documents are as long as a batch, and a unit is one batch
DEFAULTS: dict[str, object] = {
    "ablation": "resample",
    "donors": 1,
    "filters": DEFAULT_FILTERS,
    "components": "heads",
    "heads": None,
    "batch": BATCH,
    "memory": None,
    "seed": 0,
    "first": 1,
    "sample": 5,
    "replicates": 20,
}

fork = multiprocessing.get_context("forkserver")  # children that have torch loaded, and no threads of ours
fork.set_forkserver_preload(["selfrepair.run.measure", "transformers.models.gpt2.modeling_gpt2", "xarray.backends"])


def save_model(name: str, place: Path) -> Path:
    """A model of the zoo as a folder that `load` can read, with a tokenizer of 97 words."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    from zoo import families  # not at the top: children need none of it

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(place)
    families.build(name).save_pretrained(place)
    return place


def text(windows: int = WINDOWS, length: int = LENGTH, per_document: int = PER_DOCUMENT, seed: int = 0) -> Windows:
    """Random tokens; documents of equal length."""
    draws = np.random.default_rng(seed)
    owners = np.arange(windows) // per_document
    return Windows(
        tokens=draws.integers(3, VOCAB, (windows, length)),
        lengths=np.full(windows, length),
        documents=np.repeat(owners[:, None], length, 1),
        names=tuple(f"document {i}" for i in range(owners.max() + 1)),
        provenance={"source": "random", "seed": seed},
    )


def prepare(place: Path, model, windows: Windows | None = None, per_unit: int = 1, **settings: object) -> Path:
    """A folder with a plan and windows, and nothing done yet; units are one batch, or as near to `per_unit` tokens."""
    loaded = load(str(model), device="cpu") if isinstance(model, Path) else model
    corpus = text() if windows is None else windows
    place.mkdir(parents=True)
    with mock.patch.object(batch_size, "UNIT_TOKENS", per_unit):
        asked = Settings.of(**{**DEFAULTS, "engine": ReplayEngine(fold=2), **settings})
        job = preparing.prepare(loaded, corpus, asked)
    measuring.write_design(job, place)
    return place


def copy(prepared: Path, place: Path) -> Path:
    """The same plan and windows in a new folder."""
    place.mkdir(parents=True)
    for name in ("plan.json", "windows.parquet"):
        shutil.copyfile(prepared / name, place / name)
    return place


def resume(place: Path, model=None, workers: int = 1, executor: str = "processes") -> Run:
    """`resume`, which leaves out writing the merged run: that takes longer than all the rest of so small a run."""
    return measuring.carry_out(load_job(place, model), place, workers, executor, progress=False, keep=False)


def sweep_units(place: Path) -> list[Path]:
    return sorted((place / "units").glob("sweep-*.safetensors"))


def assert_same(run: Run, expected: Run) -> None:
    """Two runs are the same, to the bit."""
    assert set(run.heads.variables) == set(expected.heads.variables)
    for name, value in expected.heads.variables.items():
        assert_same_bits(run.heads.variables[name].values, value.values, name)
    assert run.heads.attrs == expected.heads.attrs
    assert run.tokens.schema.equals(expected.tokens.schema)
    for name in expected.tokens.column_names:
        assert_same_bits(run.tokens[name].to_pandas().to_numpy(), expected.tokens[name].to_pandas().to_numpy(), name)


def assert_same_bits(ours: np.ndarray, theirs: np.ndarray, name: str) -> None:
    if theirs.dtype.kind in "OU":  # text; netCDF gives it back with another width
        assert ours.tolist() == theirs.tolist(), name
        return
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape, name
    assert ours.tobytes() == theirs.tobytes(), name


# ----------------------------------------------------------------------------------------- being killed


def sweep_every_unit(place: Path, model) -> None:
    """Does all units of a run that may stop early, the last one first, also those beyond its stop."""
    job = load_job(place, model)
    store = Store(place, run_plan.identity(job.plan))
    quiet = unit_loop.Meter(0, lambda _meter: None)
    unit_loop._Stage(job, store, "survey", lambda n, a: survey.survey_unit(job, n, a), quiet).do_all()
    merged = unit_loop.merged_survey(job, store)
    for number in reversed(range(len(job.units))):
        swept = sweep.sweep_unit(job, number, merged.starting_with(""), lambda _work: None)
        store.write("sweep", number, swept, [merged.digest])


def halves(finished: Path, prepared: Path, root: Path) -> list[Path]:
    """A finished run as if two machines had done every other unit of its sweep each."""
    parts = []
    for half in range(2):
        part = copy(prepared, root / f"part{half}")
        (part / "units").mkdir()
        for number, path in enumerate(sorted((finished / "units").iterdir())):
            if not path.name.startswith("sweep") or number % 2 == half:
                (part / "units" / path.name).write_bytes(path.read_bytes())
        parts.append(part)
    return parts


def kill_at(event: int, deadly: signal.Signals = signal.SIGKILL) -> None:
    """Sends this process a signal at the n-th of these: a clean pass, some ledgers booked, a claim filled, a file
    written but not yet flushed, a file about to be renamed, one just renamed."""
    left = event

    def watched(function):
        def call(*given, **named):
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), deadly)
            return function(*given, **named)

        return call

    def watched_on_both_sides(function):
        return watched(lambda *given: (function(*given), watched(lambda: None)())[0])

    for module in (survey, sweep):
        module.clean_run = watched(module.clean_run)
    sweep.token_effects = watched(sweep.token_effects)
    unit_claims.json.dump = watched(unit_claims.json.dump)
    os.fsync = watched(os.fsync)
    Path.replace = watched_on_both_sides(Path.replace)


def resume_until(place: str, event: int) -> None:
    unit_claims.STALE = PATIENCE
    kill_at(event)
    resume(Path(place))


def resume_whole(place: str) -> None:
    measuring.resume(place, progress=False)


def work_that_fails(place: str) -> None:
    """A worker of the processes executor in whose first unit something is amiss."""

    def amiss(*_given: object):
        raise SelfRepairError("A tale of\ntwo lines.", "Mend it.")

    sweep.token_effects = amiss
    processes._work(place)


def in_child(target, *given: object):
    process = fork.Process(target=target, args=given)
    process.start()
    return process


def impatient(monkeypatch) -> None:
    """Claims of runners that were killed before they had filled them count for nothing after a second: these tests
    run one after the other."""
    monkeypatch.setattr(unit_claims, "STALE", PATIENCE)


def workers_start_quickly(monkeypatch) -> None:
    """Workers come from a server that has torch loaded, instead of starting afresh."""
    monkeypatch.setattr(processes.multiprocessing, "get_context", lambda _method: fork)


def random_kills(place: Path, times: int, seed: int, most: int = 25) -> None:
    """Resumes a run that many times, killed at a random event each time."""
    draws = random.Random(seed)
    for _ in range(times):
        child = in_child(resume_until, str(place), draws.randint(1, most))
        child.join(60)
        assert child.exitcode == -signal.SIGKILL


class Killer(threading.Thread):
    """Kills the first workers that claim units of the sweep, whoever started them."""

    def __init__(self, place: Path, workers: int) -> None:
        super().__init__(daemon=True)
        self.place, self.workers, self.killed, self.stopped = place, workers, set(), False

    def __enter__(self) -> Killer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped = True
        self.join()

    def run(self) -> None:
        while len(self.killed) < self.workers and not self.stopped:
            for claim in (self.place / "units").glob("sweep-*.claim"):
                self._kill(claim)
            time.sleep(0.002)

    def _kill(self, claim: Path) -> None:
        try:
            process = json.loads(claim.read_text())["process"]
        except (OSError, ValueError):
            return
        if len(self.killed) < self.workers and process not in {*self.killed, os.getpid()}:
            os.kill(process, signal.SIGKILL)
            self.killed.add(process)


def dead_process() -> Holder:
    """A process of this machine that has ended."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    holder = replace(Holder.me(), process=process.pid, started=_started(process.pid))
    process.communicate()
    return holder
