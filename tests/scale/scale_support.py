"""Tiny runs that the tests of this folder start, kill, garble and compare."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path
from unittest import mock

import numpy as np
import xarray as xr
from zoo import families

from selfrepair import Windows, load
from selfrepair.run import measure as measuring
from selfrepair.run import store as storing
from selfrepair.run import survey, sweep

WINDOWS, LENGTH, PER_DOCUMENT, BATCH = 16, 12, 2, 2
UNITS = WINDOWS // BATCH  # documents are as long as a batch, and a unit is one batch

fork = multiprocessing.get_context("forkserver")  # children that have torch loaded, and no threads of ours
fork.set_forkserver_preload(["selfrepair.run.measure", "transformers.models.gpt2.modeling_gpt2"])


def save_model(name: str, place: Path) -> Path:
    """A model of the zoo as a folder that `load` can read, with a tokenizer of 97 words."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(families.VOCAB)}, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(place)
    families.build(name).save_pretrained(place)
    return place


def text(windows: int = WINDOWS, length: int = LENGTH, per_document: int = PER_DOCUMENT, seed: int = 0) -> Windows:
    """Random tokens; documents of equal length."""
    draws = np.random.default_rng(seed)
    owners = np.arange(windows) // per_document
    return Windows(
        tokens=draws.integers(3, families.VOCAB, (windows, length)),
        lengths=np.full(windows, length),
        documents=np.repeat(owners[:, None], length, 1),
        names=tuple(f"document {i}" for i in range(owners.max() + 1)),
        provenance={"source": "random", "seed": seed},
    )


def prepare(place: Path, model, windows: Windows | None = None, per_unit: int = 1, **settings: object) -> Path:
    """A folder with a plan and windows, and nothing done yet."""
    loaded = load(str(model), device="cpu") if isinstance(model, Path) else model
    corpus = text() if windows is None else windows
    settings = {"batch": BATCH, "replicates": 20, "sample": 5, **settings}
    with mock.patch.object(measuring, "carry_out"), mock.patch.object(measuring, "_TOKENS_PER_UNIT", per_unit):
        measuring.measure(loaded, corpus, out=place, progress=False, **settings)
    return place


def copy(prepared: Path, place: Path) -> Path:
    """The same plan and windows in a new folder."""
    place.mkdir(parents=True)
    for name in ("plan.json", "windows.parquet"):
        shutil.copyfile(prepared / name, place / name)
    return place


def resume(place: Path, **settings: object):
    return measuring.resume(place, progress=False, **settings)


def sweep_units(place: Path) -> list[Path]:
    return sorted((place / "units").glob("sweep-*.safetensors"))


def assert_same(place: Path, expected: Path) -> None:
    """Two finished folders hold the same results, to the bit."""
    with xr.open_dataset(place / "heads.nc") as ours, xr.open_dataset(expected / "heads.nc") as theirs:
        assert set(ours.variables) == set(theirs.variables)
        for name, value in theirs.variables.items():
            left, right = ours.variables[name].values, value.values
            assert left.dtype == right.dtype and left.shape == right.shape, name
            assert left.tobytes() == right.tobytes() if left.dtype != object else list(left) == list(right), name
        assert ours.attrs == theirs.attrs
    assert (place / "tokens.parquet").read_bytes() == (expected / "tokens.parquet").read_bytes()


# ----------------------------------------------------------------------------------------- being killed


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
    storing.json.dump = watched(storing.json.dump)
    os.fsync = watched(os.fsync)
    Path.replace = watched_on_both_sides(Path.replace)


def resume_until(place: str, event: int) -> None:
    kill_at(event)
    resume(Path(place))


def resume_whole(place: str) -> None:
    resume(Path(place))


def in_child(target, *given: object):
    process = fork.Process(target=target, args=given)
    process.start()
    return process


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
