"""`selfrepair run --minutes`: what it prints, and that its run equals one on that many tokens."""

import json

import numpy as np
import pytest

from selfrepair.run.budget import within_budget as budget
from selfrepair.run.budget.pilot import Pilot


@pytest.fixture
def costs(monkeypatch):
    """A window takes 5 seconds, so that 10 fit in a minute."""
    monkeypatch.setattr(budget, "pilot", lambda *_, **__: Pilot(4, 0.0, 5.0))
    monkeypatch.setattr(budget, "least_seconds", lambda _job: 2.5)
    monkeypatch.setattr(budget.time, "perf_counter", lambda: 0.0)


def test_it_is_the_run_on_as_many_tokens(selfrepair, llama, tmp_path, runs, costs):
    rest = ("--length", "24", "--heads", "L2H0", "--no-plots", "--no-page")
    ended = selfrepair("run", llama, "--minutes", "1", "--tokens", "960", *rest, "--out", tmp_path / "timed")
    assert ended.code == 0, ended.err
    assert "Time: 10 windows fit in 1 minute (5 s a window, 4 windows were tried)." in " ".join(ended.err.split())
    plain = selfrepair("run", llama, "--tokens", "240", *rest, "--out", tmp_path / "plain")
    assert plain.code == 0, plain.err
    plans = [json.loads((tmp_path / name / "plan.json").read_text()) for name in ("timed", "plain")]
    assert plans[0]["text"]["fingerprint"] == plans[1]["text"]["fingerprint"]
    assert plans[0]["text"]["tokens"] == plans[1]["text"]["tokens"] == 240
    timed, known = (run.heads for run in runs[-2:])
    for name in known.data_vars:
        np.testing.assert_array_equal(timed[name].values, known[name].values, err_msg=name)


def test_a_text_that_has_less_is_taken_whole(selfrepair, llama, tmp_path, costs):
    text = tmp_path / "text.jsonl"
    documents = [{"text": f"Document {number}: {'the quick brown fox; ' * 3}{number}"} for number in range(6)]
    text.write_text("".join(json.dumps(document) + "\n" for document in documents))
    rest = ("--text", text, "--length", "24", "--heads", "L2H0", "--no-plots", "--no-page", "--out", tmp_path / "run")
    ended = selfrepair("run", llama, "--minutes", "3", *rest)
    assert ended.code == 0 and "windows that there are, which take about" in " ".join(ended.err.split()), ended.err


def test_a_time_that_is_none_is_refused_before_the_model_is_loaded(selfrepair, llama, tmp_path):
    ended = selfrepair("run", llama, "--minutes", "0", "--out", tmp_path / "run")
    assert ended.code == 1 and "Cannot measure for 0.0 minutes" in ended.said and "Loading" not in ended.said
