"""What is fuzzed: a finished tiny run and a model's folder; and how long a reading and how much memory it may take."""

from __future__ import annotations

import json
import os
import resource
import signal
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest

from loading import tiny_models
from selfrepair import SelfRepairError, load, measure, windows
from selfrepair.engine import ReplayEngine

MORE = int(os.environ.get("SELFREPAIR_FUZZ", "1"))  # as many mutations as usual; more to look for what is missed
SECONDS, MEGABYTES = 10, 400  # of one reading; of all of a kind together
DOCUMENTS = [f"{number}: the quick brown fox jumps over the lazy dog, {number} times." * 2 for number in range(8)]


class Hang(BaseException):
    """A reading that did not end in time."""


@contextmanager
def in_time():
    """Ends what takes too long."""

    def late(*_given):
        raise Hang

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def in_bounds():
    """Fails where memory grows far more than a file of a few kilobytes can be reason for."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MEGABYTES, f"memory grew by {grown:.0f} MB"


def outcome(read: Callable[[], object]) -> tuple[str, object]:
    """What came of a reading: a refusal in words, or what was read; anything else raises."""
    with in_time(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return "read", read()
        except SelfRepairError as refusal:
            assert refusal.problem.strip() and "\x1b" not in str(refusal)
            return "refused", refusal.problem


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    return tiny_models.save("llama", tmp_path_factory.mktemp("fuzz") / "model")


@pytest.fixture(scope="session")
def finished(model_folder, tmp_path_factory) -> Path:
    """The folder of a finished run."""
    root = tmp_path_factory.mktemp("finished")
    text = root / "text.jsonl"
    text.write_text("".join(json.dumps({"text": one}) + "\n" for one in DOCUMENTS))
    model = load(str(model_folder), device="cpu")
    corpus = windows(model.tokenizer, str(text), tokens=160, length=16)
    settings = {"batch": 4, "engine": ReplayEngine(fold=2), "heads": [(2, 0), (1, 1)], "replicates": 8, "sample": 4}
    measure(model, corpus, out=root / "run", progress=False, **settings)
    return root / "run"
