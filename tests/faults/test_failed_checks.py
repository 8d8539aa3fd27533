"""Runs whose checks fail, or that are inexact, from the command line: exit codes and what is said, then and later."""

from __future__ import annotations

import json
from dataclasses import replace

from loading.fixtures import SHORT
from selfrepair.engine import replay
from selfrepair.run.gathering import judgement


def test_a_floor_of_two_logits_ends_with_exit_code_3(selfrepair, llama, tmp_path, monkeypatch):
    """Every ledger closes all the same."""
    ledger = replay.Replay.ledger

    def lifted(self):
        book = ledger(self)
        return replace(book, total_effect=book.total_effect + 2, norm=book.norm + 2)

    monkeypatch.setattr("selfrepair.model.load.require_ablations", lambda _model: None)  # it would see this at load
    monkeypatch.setattr(replay.Replay, "ledger", lifted)
    ended = selfrepair("run", llama, *SHORT, "--out", tmp_path / "run")
    assert ended.code == 3 and "THE RUN FAILS ITS CHECKS" in ended.said and "numerical floor is 2.0e+00" in ended.said
    outcome = json.loads((tmp_path / "run" / "outcome.json").read_text())
    assert outcome["status"] == "failed its checks" and outcome["ledger_closes"] is True
    again = selfrepair("show", tmp_path / "run")
    assert again.code == 3 and "numerical floor is" in again.said and "Do not use these numbers" in again.out
    assert selfrepair("show", tmp_path / "run", "--json").code == 3
    assert "Do not use these numbers" in (tmp_path / "run" / "report.html").read_text()


def test_forced_products_that_are_off_are_said_loudly(selfrepair, llama, tmp_path, monkeypatch):
    monkeypatch.setattr(judgement, "LIMIT", 1e-3)
    ended = selfrepair("run", llama, *SHORT, "--precision", "int8", "--out", tmp_path / "run")
    assert ended.code == 0 and "Inexact: The engine's effects are off by" in ended.said
    assert "Bias of the mean" in ended.said and "Effects are rounded to int8" in ended.said
    assert "engine's error per token" in ended.out
    again = selfrepair("show", tmp_path / "run")
    assert again.code == 0 and "Inexact:" in again.said and "Bias of the mean" in again.out
