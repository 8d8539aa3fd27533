"""Folders that exist, full disks, missing packages, open ledgers: nothing computed is lost, nothing overwritten."""

import errno
import importlib.util
import json
import os
import stat
import warnings

import numpy as np
import pytest
import xarray as xr

from loading.fixtures import SHORT
from selfrepair import LedgerDoesNotClose, SelfRepairError, load, load_run, measure, windows
from selfrepair.engine import replay


def files(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_that_holds_something_is_never_written_to(selfrepair, llama, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    ended = selfrepair("run", llama, *SHORT, "--out", tmp_path / "run")
    assert (
        ended.code == 1 and "exists and is not empty" in ended.said and "Give another folder with --out" in ended.said
    )
    assert files(tmp_path / "run") == {"thesis.txt"} and "Loading" not in ended.err


def test_a_file_in_the_folders_place(selfrepair, llama, tmp_path):
    (tmp_path / "run").write_text("a file")
    ended = selfrepair("run", llama, *SHORT, "--out", tmp_path / "run")
    assert ended.code == 1 and "is a file, not a folder" in ended.said
    assert (tmp_path / "run").read_text() == "a file"


def test_an_empty_folder_is_used(selfrepair, llama, tmp_path, runs):
    (tmp_path / "run").mkdir()
    assert selfrepair("run", llama, *SHORT, "--heads", "L2H0", "--out", tmp_path / "run").code == 0
    assert "heads.nc" in files(tmp_path / "run")


def test_a_folder_with_odd_characters(selfrepair, llama, tmp_path, runs):
    place = tmp_path / "[bold] run [/red]"
    ended = selfrepair("run", llama, *SHORT, "--heads", "L2H0", "--out", place)
    assert ended.code == 0 and f"selfrepair show '{place}'" in ended.out and "heads.nc" in files(place)


@pytest.fixture
def disk(monkeypatch):
    """A disk on which only so many files find room."""
    room, sync = [0], os.fsync

    def fsync(file):
        room[0] -= stat.S_ISREG(os.fstat(file).st_mode)
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    monkeypatch.setattr(os, "fsync", fsync)
    return room


@pytest.mark.parametrize("room", [0, 1, 3])
def test_a_full_disk(selfrepair, llama, tmp_path, disk, runs, room):
    disk[0] = room
    ended = selfrepair("run", llama, *SHORT, "--out", tmp_path / "run")
    assert ended.code == 1 and "The disk is full: cannot write" in ended.said and "Free some space" in ended.said
    assert not (tmp_path / "run").exists() or files(tmp_path / "run") <= {
        "plan.json",
        "windows.parquet",
        "units",
        "log.txt",
    }


def test_a_full_disk_at_the_end_loses_no_numbers(selfrepair, llama, tmp_path, disk, runs):
    disk[0] = 6  # plan, windows, survey, thresholds, sweep: the results do not fit any more
    ended = selfrepair("run", llama, *SHORT, "--out", tmp_path / "run")
    assert ended.code == 1 and "The disk is full" in ended.said
    disk[0] = 10**6
    again = selfrepair("resume", tmp_path / "run")
    assert again.code == 0 and "self-repair" in again.out


def test_an_error_in_the_sweep_loses_no_numbers(selfrepair, llama, tmp_path, monkeypatch):
    from selfrepair.run.unit import sweep

    calls, effects = [], sweep.token_effects

    def failing(*given):
        calls.append(given)
        if len(calls) > 2:
            raise RuntimeError("out of memory")
        return effects(*given)

    monkeypatch.setattr(sweep, "token_effects", failing)
    with pytest.raises(RuntimeError):
        selfrepair("run", llama, *SHORT, "--out", tmp_path / "run")
    assert "heads.nc" in files(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "outcome.json").read_text())["status"] == "failed"


def missing(monkeypatch, package: str) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else found(name, *rest)
    )


def test_without_matplotlib_there_are_no_pictures_but_a_run(selfrepair, llama, tmp_path, monkeypatch, runs):
    missing(monkeypatch, "matplotlib")
    ended = selfrepair("run", llama, *SHORT[:-1], "--heads", "L2H0", "--out", tmp_path / "run")
    assert ended.code == 0 and "pip install 'selfrepair[plots]'" in ended.said
    assert files(tmp_path / "run") == {
        "plan.json",
        "outcome.json",
        "windows.parquet",
        "heads.nc",
        "tokens.parquet",
        "manifest.json",
        "log.txt",
        "units",
        "closeups.parquet",
        "passages.parquet",
        "vocabulary.parquet",
        "report.html",
    }


def test_without_plotly_there_is_no_page_but_a_run(selfrepair, llama, tmp_path, monkeypatch, runs):
    missing(monkeypatch, "plotly")
    ended = selfrepair("run", llama, *SHORT[:-1], "--heads", "L2H0", "--out", tmp_path / "run")
    assert ended.code == 0 and "No report.html: pip install 'selfrepair[report]'" in ended.said
    assert "report.html" not in files(tmp_path / "run") and "heads.nc" in files(tmp_path / "run")


def test_without_gguf_the_message_names_it(selfrepair, tmp_path, monkeypatch):
    missing(monkeypatch, "gguf")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    ended = selfrepair("check", tmp_path / "model.gguf")
    assert ended.code == 1 and "'gguf', which is not installed" in ended.said and "selfrepair[gguf]" in ended.said


@pytest.fixture
def broken(monkeypatch):
    """A replay engine that is off by a little, or gives no number, on one token."""
    ledger = replay.Replay.ledger

    def set_to(change: float) -> None:
        def wrong(self):
            book = ledger(self)
            book.total_effect[0, 0, 5] += change
            return book

        monkeypatch.setattr("selfrepair.model.load.require_ablations", lambda _model: None)  # it would see this at load
        monkeypatch.setattr(replay.Replay, "ledger", wrong)

    return set_to


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("change", [1e-3, float("inf")])
def test_a_ledger_that_does_not_close(selfrepair, llama, tmp_path, broken, change):
    broken(change)
    ended = selfrepair("run", llama, *SHORT, "--out", tmp_path / "run")
    assert ended.code == 3 and "THE LEDGER DOES NOT CLOSE" in ended.said and "Do not use these numbers" in ended.said
    assert json.loads((tmp_path / "run" / "outcome.json").read_text())["ledger_closes"] is False
    again = selfrepair("show", tmp_path / "run")
    assert "THE LEDGER DOES NOT CLOSE" in again.said and again.out


def test_a_plan_is_json_even_then(selfrepair, llama, tmp_path, broken, runs):
    broken(float("nan"))
    selfrepair("run", llama, *SHORT, "--out", tmp_path / "run")
    json.loads((tmp_path / "run" / "outcome.json").read_text(), parse_constant=pytest.fail)


def test_a_multiplier_that_is_not_the_models_own_leaves_the_ledger_open(llama):
    """As Granite's residual multiplier would, had it been overlooked."""
    model = load(llama)
    text = windows(model.tokenizer, tokens=120, length=24)
    with warnings.catch_warnings():
        warnings.simplefilter("error", LedgerDoesNotClose)
        measure(model, text, progress=False)
        object.__setattr__(model.anatomy.blocks[1], "mlp_multiplier", 0.9)
        with pytest.raises(LedgerDoesNotClose, match="Do not use these numbers"):
            measure(model, text, progress=False)


def test_from_python_a_run_can_be_saved_once_and_read_again(llama, tmp_path):
    model = load(llama)
    run = measure(model, windows(model.tokenizer, tokens=120, length=24), progress=False)
    run.save(tmp_path / "run")
    with pytest.raises(SelfRepairError, match="exists and is not empty"):
        run.save(tmp_path / "run")
    again = load_run(tmp_path / "run")
    xr.testing.assert_equal(again.heads, run.heads)
    assert again.tokens.equals(run.tokens) and np.isfinite(again.heads["self_repair"]).all()
