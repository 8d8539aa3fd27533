"""Ctrl-C, and a job scheduler's SIGTERM, in the middle of a sweep."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from loading.fixtures import SHORT, environment
from selfrepair import SelfRepairError, load_run, measure, resume
from selfrepair.run.storage.store import Store
from selfrepair.run.unit.token_effects import token_effects
from support import corpus, language_model

WINDOWS = 60  # far more than are done before the signal comes
SIGNALS = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM}


def start(model, text, place) -> subprocess.Popen:
    size = ["--tokens", 24 * WINDOWS, "--length", 24, "--batch", 1, "--donors", 20]
    command = ["run", model, "--text", text, *size, "--no-plots", "--out", place]
    return subprocess.Popen(
        [sys.executable, "-m", "selfrepair", *map(str, command)],
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # even below nohup
    )


@pytest.fixture(scope="module")
def interrupted(saved, tmp_path_factory):
    """By signal: exit code, output, messages and folder of a run that it ended."""
    root = tmp_path_factory.mktemp("interrupted")
    lines = (json.dumps({"text": f"{number}: a text of its own"}) + "\n" for number in range(1000, 1000 + WINDOWS))
    (root / "text.jsonl").write_text("".join(lines))
    running = {name: start(saved("llama"), root / "text.jsonl", root / name) for name in SIGNALS}
    ended, before = {}, dict.fromkeys(SIGNALS, "")
    try:
        for name, process in running.items():
            while "Survey (clean pass): 100%" not in before[name]:
                line = process.stderr.readline()
                assert line, before[name]
                before[name] += line
            while not list((root / name / "units").glob("sweep-*.claim")) and process.poll() is None:
                time.sleep(0.01)
            time.sleep(1.0)
            process.send_signal(SIGNALS[name])
        for name, process in running.items():
            out, err = process.communicate(timeout=60)
            ended[name] = process.returncode, out, before[name] + err, root / name
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    return ended


@pytest.mark.long
@pytest.mark.parametrize("name", SIGNALS)
def test_it_says_so(interrupted, name):
    code, out, err, _ = interrupted[name]
    assert code == 130 and "Traceback" not in err
    assert "Interrupted: the folder holds what had been measured until then;" in " ".join(err.split())
    assert "Run interrupted" in out and "self-repair" in out


@pytest.mark.parametrize("name", SIGNALS)
def test_what_was_measured_is_on_disk(interrupted, name):
    run = load_run(interrupted[name][3])
    assert run.outcome["status"] == run.heads.attrs["status"] == "interrupted"
    counts = run.heads["count"].sel(filter="all")
    assert 0 < counts.max() < 22 * WINDOWS
    measured = run.heads["self_repair"].sel(filter="all").values[counts.values > 0]
    assert np.isfinite(measured).all() and run.tokens.num_rows > 0
    assert run.outcome["ledger_closes"] is True


def test_before_the_sweep_nothing_is_kept(selfrepair, llama, tmp_path, monkeypatch):
    def interrupting(*_given, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("selfrepair.model.load.load", interrupting)
    ended = selfrepair("run", llama, *SHORT, "--out", tmp_path / "run")
    assert ended.code == 130 and "nothing was measured" in ended.said and not (tmp_path / "run").exists()


def test_in_the_survey_the_plan_is_kept(selfrepair, llama, tmp_path, monkeypatch):
    def interrupting(*_given, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("selfrepair.run.unit.survey.survey_unit", interrupting)
    ended = selfrepair("run", llama, *SHORT, "--out", tmp_path / "run")
    assert ended.code == 130 and "nothing was measured" in ended.said
    assert "selfrepair resume" in ended.said
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["heads"]


def test_a_run_of_no_head_at_all_can_be_shown(selfrepair, llama, tmp_path, monkeypatch):
    def interrupting(*_given):
        raise KeyboardInterrupt

    monkeypatch.setattr("selfrepair.run.unit.sweep.token_effects", interrupting)
    ended = selfrepair("run", llama, *SHORT[:-1], "--out", tmp_path / "run")
    assert ended.code == 130 and "no head has tokens" in ended.out
    again = selfrepair("show", tmp_path / "run")
    assert again.code == 0 and "no head has tokens" in again.out and "Interrupted" in again.said


def interrupting_after(chunks: int, monkeypatch) -> None:
    """Ctrl-C after so many chunks of the sweep; never where 0."""
    calls = iter(range(1, 10**6))

    def booked(*given):
        if next(calls) == chunks:
            raise KeyboardInterrupt
        return token_effects(*given)

    monkeypatch.setattr("selfrepair.run.unit.sweep.token_effects", booked)


def test_a_second_interruption_takes_nothing_away(tmp_path, monkeypatch):
    model, options = language_model("llama"), {"heads": [(2, 0), (1, 1), (0, 2)], "batch": 2, "progress": False}
    whole = measure(model, corpus(), **options)
    counts = []
    for chunks in (7, 2, 8):
        interrupting_after(chunks, monkeypatch)
        run = resume(tmp_path, model, progress=False) if counts else measure(model, corpus(), out=tmp_path, **options)
        assert run.outcome["status"] == "interrupted"
        counts.append(int(load_run(tmp_path).heads["count"].sel(filter="all").sum()))
    assert 0 < counts[0] == counts[1] < counts[2]
    assert len(list((tmp_path / "units").glob("partial-*"))) == 1
    interrupting_after(0, monkeypatch)
    ended = resume(tmp_path, model, progress=False)
    assert ended.outcome["status"] == "complete" and not list((tmp_path / "units").glob("partial-*"))
    assert ended.heads.equals(whole.heads.assign_attrs(ended.heads.attrs))


def test_on_a_full_disk_what_an_interrupted_unit_had_come_to_before_stays(tmp_path, monkeypatch):
    model, options = language_model("llama"), {"heads": [(2, 0), (1, 1)], "batch": 2, "progress": False}
    interrupting_after(2, monkeypatch)
    measure(model, corpus(), out=tmp_path, **options)
    (before,) = (tmp_path / "units").glob("partial-*")

    def full(_store, stage, *_given):
        raise SelfRepairError(f"No room for {stage}.")

    monkeypatch.setattr(Store, "write", full)
    interrupting_after(4, monkeypatch)
    run = resume(tmp_path, model, progress=False)
    assert run.outcome["status"] == "interrupted" and before.is_file()
