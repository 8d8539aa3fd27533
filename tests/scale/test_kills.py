"""Runs that are killed and go on: the result is that of a run that was left alone, to the bit."""

from __future__ import annotations

import signal

import pytest
from conftest import PAPERS_FAMILIES
from scale_support import (
    UNITS,
    assert_same,
    copy,
    in_child,
    random_kills,
    resume,
    resume_whole,
    sweep_units,
)

from selfrepair.results.folder import load
from selfrepair.run import sweep


@pytest.mark.parametrize("family", PAPERS_FAMILIES)
def test_killed_at_five_random_moments(family, undisturbed, tmp_path):
    prepared, finished = undisturbed(family)
    place = copy(prepared, tmp_path / "run")
    random_kills(place, times=5, seed=len(family))
    assert resume(place).outcome["status"] == "complete"
    assert_same(place, finished)


def test_killed_while_renaming_leaves_nothing_that_counts(run):
    place, finished = run
    for seed in range(3):
        random_kills(place, times=1, seed=seed, most=5)
    assert len(sweep_units(place)) < UNITS
    resume(place)
    assert len(sweep_units(place)) == UNITS
    assert_same(place, finished)


def test_two_runners_on_one_folder(run):
    place, finished = run
    children = [in_child(resume_whole, str(place)) for _ in range(2)]
    for child in children:
        child.join(90)
        assert child.exitcode == 0
    assert_same(place, finished)
    assert len(sweep_units(place)) == UNITS, "the same unit is the same file, whoever did it"
    assert not list((place / "units").glob("*.claim"))


@pytest.mark.parametrize("ledgers", [1, 5, 40])
def test_interrupted_keeps_what_there_is_and_goes_on(run, monkeypatch, ledgers):
    place, finished = run
    interrupt_at(monkeypatch, ledgers)
    partial = resume(place)
    assert partial.outcome["status"] == "interrupted"
    assert load(place).heads.attrs["status"] == "interrupted"
    whole = load(finished).heads["count"]
    assert 0 <= int(partial.heads["count"].sum()) < int(whole.sum())
    monkeypatch.undo()
    assert resume(place).outcome["status"] == "complete"
    assert_same(place, finished)


def test_interrupted_before_the_survey_ended_says_so_and_goes_on(run, monkeypatch):
    from selfrepair.run import survey

    place, finished = run
    calls = iter(range(3))
    real = survey.clean_run
    monkeypatch.setattr(survey, "clean_run", lambda *a: real(*a) if next(calls) < 2 else signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        resume(place)
    monkeypatch.undo()
    resume(place)
    assert_same(place, finished)


def interrupt_at(monkeypatch, ledgers):
    left, real = ledgers, sweep.token_effects

    def effects(*given):
        nonlocal left
        left -= 1
        if left == 0:
            signal.raise_signal(signal.SIGINT)
        return real(*given)

    monkeypatch.setattr(sweep, "token_effects", effects)
