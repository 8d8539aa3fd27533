"""Runs of a given time: a pilot decides how much text, the plan says so, and then time plays no part."""

from __future__ import annotations

import numpy as np
import pytest
from comparing import assert_same_heads, assert_same_tokens
from hypothesis import given
from hypothesis import strategies as st

from selfrepair import ReplayEngine, SelfRepairError, measure, resume
from selfrepair.run.budget import pilot as piloting
from selfrepair.run.budget import within_budget as budget
from selfrepair.run.budget.pilot import Pilot, first_of_documents, pilot
from selfrepair.run.budget.within_budget import _windows_that_fit, within_budget
from selfrepair.run.planning import run_plan
from selfrepair.run.planning.prepare import prepare
from selfrepair.run.planning.settings import Settings
from selfrepair.statistics.exact_share import HeadVariance, best_share
from selfrepair.statistics.keep_limits import SPREADS
from support import corpus, language_model

DOCUMENTS = 24
OPTIONS = {"filters": ("all", "top:0.1"), "replicates": 20, "progress": False, "engine": ReplayEngine(fold=2)}
SECONDS = 0.9 * 60  # that are planned for in a minute


def text(documents=DOCUMENTS):
    return corpus(lengths=[9, 8] * documents, documents=np.arange(2 * documents) // 2)


def measured(given=None, **options):
    return measure(language_model("gpt2"), text() if given is None else given, **{**OPTIONS, **options})


@pytest.fixture
def costs(monkeypatch):
    """Says what windows cost, in place of a clock."""

    def of(every, exact):
        monkeypatch.setattr(budget, "pilot", lambda *_, **__: Pilot(8, every, exact))
        monkeypatch.setattr(budget, "least_seconds", lambda _job: exact / 2)
        monkeypatch.setattr(budget.time, "perf_counter", lambda: 0.0)

    return of


def test_as_many_windows_as_fit_and_the_numbers_are_those_of_a_run_on_them(costs):
    costs(0.0, 2.5)
    run = measured(minutes=1)
    fit = int(SECONDS / 2.5)
    facts = run.plan["budget"]
    assert run.plan["text"]["windows"] == fit == 21 and run.plan["text"]["tokens"] == 21 * 9
    assert facts["minutes"] == 1 and facts["windows_given"] == 48 and facts["seconds_exact"] == 2.5
    assert "21 windows fit in 1 minute (2.5 s a window, 8 windows were tried)" in run_plan.how(run.plan)
    plain = measured(text().select(np.arange(fit)))
    assert_same_heads(run, plain)
    assert_same_tokens(run, plain)
    assert plain.plan["budget"] is None


def test_in_two_phases_a_share_of_them_is_exact(costs):
    costs(0.5, 2.0)
    run = measured(minutes=0.5, surrogate="own", exact_share=0.25)
    fit = int(SECONDS / 2 / (0.5 + 0.25 * 2.0))
    assert run.plan["text"]["windows"] == fit == 27
    assert run.plan["phases"]["documents"] == 14 and run.plan["phases"]["exact_documents"] == round(0.25 * 14)
    assert "0.5 s a window, 2 s more if measured exactly" in run.plan["budget"]["reason"]


def test_the_share_is_what_narrows_intervals_most(costs, monkeypatch):
    costs(0.2, 2.0)
    variance = HeadVariance(np.array([0.05, 0.15]), np.ones(2))
    monkeypatch.setattr(budget, "pilot", lambda *_, **__: Pilot(8, 0.2, 2.0, variance))
    plan = within_budget(language_model("gpt2"), text(80), Settings.of(minutes=1, surrogate="own")).plan
    share = best_share(variance, 0.2, 2.0, SECONDS)
    assert 0.1 < share < 0.5
    assert plan["text"]["windows"] == int(SECONDS / (0.2 + share * 2.0))
    assert plan["phases"]["exact_documents"] == round(share * plan["phases"]["documents"])
    assert plan["budget"]["variance_left"] == 0.1
    assert f"{share:.0%} of them exactly, because the surrogate leaves 10%" in plan["budget"]["reason"]
    given = within_budget(
        language_model("gpt2"), text(80), Settings.of(minutes=1, surrogate="own", exact_share=0.5)
    ).plan
    assert given["budget"]["variance_left"] is None and "because" not in given["budget"]["reason"]
    monkeypatch.setattr(budget, "pilot", lambda *_, **__: Pilot(8, 0.2, 2.0))
    unknown = within_budget(language_model("gpt2"), text(80), Settings.of(minutes=1, surrogate="own")).plan
    assert unknown["phases"]["exact_documents"] == max(2, round(0.1 * unknown["phases"]["documents"]))


def test_a_pilot_sees_what_the_surrogate_leaves():
    """Of the last layer nothing: there, ablation at one's own position is ablation. Of the first, much."""
    settings = Settings.of(filters=OPTIONS["filters"], surrogate="own", exact_share=1.0, until_se=1.0, until="heads")
    job = prepare(language_model("gpt2"), first_of_documents(text(), 20), settings)
    left = pilot(job, planned=60).variance.left
    heads = 4
    assert len(left) == 12  # the last layer first
    assert left[:heads].max() < 1e-6 and np.median(left[-heads:]) > 0.05 and left.max() <= 1


def test_a_text_that_is_shorter_is_taken_whole_and_that_is_said(costs):
    costs(0.0, 0.1)
    run = measured(minutes=3)
    assert run.plan["text"]["windows"] == 48
    said = run.plan["budget"]["reason"]
    assert "all 48 windows that there are, which take about 0.08 of 3 minutes" in said and "more text" in said
    assert_same_heads(run, measured())


def test_workers_share_the_work(costs):
    costs(0.0, 5.0)
    model = language_model("gpt2")
    alone, three = (
        within_budget(model, text(), Settings.of(minutes=1, workers=workers)).plan["text"]["windows"]
        for workers in (1, 3)
    )
    assert (alone, three) == (10, 32)


@pytest.mark.parametrize("exact", [40.0, 400.0])
def test_a_time_too_short_for_two_documents_is_refused_with_one_that_is_not(costs, exact):
    costs(0.0, exact)
    with pytest.raises(SelfRepairError, match="will not do for two documents") as refused:
        measured(minutes=1)
    enough = float(refused.value.fix.split("--minutes ")[1].split()[0])
    assert 1 < enough < 30
    run = measured(minutes=3 * exact / 40 * 1.2)
    assert run.plan["text"]["windows"] >= 3  # of two documents: the first has two windows


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(minutes):
    with pytest.raises(SelfRepairError, match="Cannot measure for"):
        measured(minutes=minutes)


def test_a_resumed_run_has_no_pilot(costs, tmp_path, monkeypatch):
    costs(0.0, 2.5)
    whole = measured(minutes=1, out=tmp_path / "run", batch=4)
    next(iter((tmp_path / "run" / "units").glob("sweep-*.safetensors"))).unlink()
    monkeypatch.setattr(budget, "pilot", lambda *_, **__: pytest.fail("timed again"))
    again = resume(tmp_path / "run", language_model("gpt2"), progress=False)
    assert_same_heads(again, whole)
    assert again.plan["budget"] == whole.plan["budget"]


def test_it_may_stop_before_the_time_is_over(costs):
    costs(0.0, 2.5)
    plan = within_budget(language_model("gpt2"), text(), Settings.of(minutes=1, until_se=0.1)).plan
    assert plan["until"]["standard_error"] == 0.1 and plan["text"]["windows"] == 21


def test_a_real_pilot(monkeypatch):
    """Of the run's own code: what every window takes is a part of what an exact one does, and time is used."""
    clock = iter(np.arange(0, 10**6, 1.0))
    monkeypatch.setattr(piloting.time, "perf_counter", lambda: next(clock))
    settings = Settings.of(filters=OPTIONS["filters"], surrogate="own", exact_share=1.0)
    job = prepare(language_model("gpt2"), first_of_documents(text(), 6), settings)
    found = pilot(job, planned=60)
    assert (found.windows, found.every, found.exact) == (6, 2 / 6, 0.0)  # two ticks of survey and sweep each
    some = piloting._of_one_unit(job, job.plan, 54)
    assert some.spreads == pytest.approx(SPREADS / 3) and len(some.units) == 1 and not some.is_probed(0)
    exact = prepare(language_model("gpt2"), first_of_documents(text(), 6), Settings.of())
    assert pilot(exact, planned=60) == Pilot(6, 0.0, 2 / 6)
    assert piloting._of_one_unit(exact, exact.plan, 60).spreads is None


@pytest.mark.parametrize("options", [{}, {"surrogate": "own"}, {"positions": "own", "engine": "auto"}])
def test_from_the_clock_to_the_numbers(options):
    run = measured(minutes=10, **options)  # that a busy machine can do it
    assert 3 <= run.plan["text"]["windows"] <= 48 and run.outcome["status"] == "complete"
    assert run.plan["budget"]["seconds_exact"] > 0
    assert (run.plan["budget"]["seconds_every"] > 0) == ("surrogate" in options)


def test_pilots_have_the_longest_window_of_each_document():
    lengths = [9, 5, 7, 9, 8, 9]
    given = corpus(lengths=lengths, documents=[0, 0, 1, 2, 3, 4])
    found = first_of_documents(given, 3)
    assert found.lengths.tolist() == [9, 9, 9] and len(found.document_sets()) == len(set(found.document_sets())) == 3


@given(
    seconds=st.floats(1, 1000),
    every=st.floats(0.001, 1),
    exact=st.floats(0.001, 10),
    share=st.one_of(st.none(), st.floats(0.01, 1)),
)
def test_what_fits_fits_and_no_more_does(seconds, every, exact, share):
    found = Pilot(4, every, exact)
    fit = _windows_that_fit(seconds, found, share)

    def cost(number):
        return number * exact if share is None else number * every + max(2, share * number) * exact

    assert fit == 0 or cost(fit) <= seconds * (1 + 1e-9)
    assert cost(fit + 1) > seconds * (1 - 1e-9)
