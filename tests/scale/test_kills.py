"""Runs that are killed and go on: the result is that of a run that was left alone, to the bit."""

from __future__ import annotations

import signal

import pytest
from scale_support import (
    PAPERS_FAMILIES,
    UNITS,
    assert_same,
    copy,
    impatient,
    in_child,
    random_kills,
    resume,
    resume_whole,
    sweep_units,
)

from selfrepair.results.run_folder import load_run
from selfrepair.run import measure
from selfrepair.run.unit import survey, sweep


@pytest.mark.long
@pytest.mark.parametrize("family", PAPERS_FAMILIES)
def test_killed_at_five_random_moments(family, undisturbed, tmp_path, monkeypatch):
    impatient(monkeypatch)
    prepared, expected = undisturbed(family)
    place = copy(prepared, tmp_path / "run")
    random_kills(place, times=5, seed=len(family))
    assert_same(resume(place), expected)
    assert len(sweep_units(place)) == UNITS


def test_two_runners_on_one_folder(run):
    place, expected = run
    children = [in_child(resume_whole, str(place)) for _ in range(2)]
    for child in children:
        child.join(90)
        assert child.exitcode == 0
    assert_same(load_run(place), expected)
    assert len(sweep_units(place)) == UNITS, "the same unit is the same file, whoever did it"
    assert not list((place / "units").glob("*.claim"))


def test_interrupted_run_is_on_disk_and_goes_on(run, monkeypatch):
    place, expected = run
    interrupt_at(monkeypatch, sweep, "token_effects", call=5)
    partial = measure.resume(place, progress=False)
    assert partial.outcome["status"] == "interrupted"
    assert_same(load_run(place), partial)
    counts = partial.heads["count"].sel(filter="all")
    assert 0 < int(counts.sum()) < int(expected.heads["count"].sel(filter="all").sum())
    monkeypatch.undo()
    assert_same(resume(place), expected)


@pytest.mark.parametrize("call", [1, 2, 30])
def test_interrupted_at_any_ledger(run, monkeypatch, call):
    place, expected = run
    interrupt_at(monkeypatch, sweep, "token_effects", call)
    assert resume(place).outcome["status"] == "interrupted"
    monkeypatch.undo()
    assert_same(resume(place), expected)


def test_interrupted_while_a_unit_is_written(run, monkeypatch):
    place, expected = run
    interrupt_at(monkeypatch, sweep.UnitSums, "arrays", call=3)
    assert resume(place).outcome["status"] == "interrupted"
    monkeypatch.undo()
    assert_same(resume(place), expected)


def test_interrupted_in_the_survey_has_no_numbers_yet_but_goes_on(run, monkeypatch):
    place, expected = run
    interrupt_at(monkeypatch, survey, "clean_run", call=3)
    with pytest.raises(KeyboardInterrupt):
        resume(place)
    assert len(list((place / "units").glob("survey-*"))) == 2
    monkeypatch.undo()
    assert_same(resume(place), expected)


def test_interrupted_between_survey_and_sweep(run, monkeypatch):
    place, expected = run
    monkeypatch.setattr(sweep, "sweep_unit", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        resume(place)
    monkeypatch.undo()
    assert_same(resume(place), expected)


def interrupt_at(monkeypatch, owner, name, call):
    """Ctrl-C at the n-th call of a function."""
    left, real = call, getattr(owner, name)

    def interrupting(*given, **named):
        nonlocal left
        left -= 1
        if left == 0:
            signal.raise_signal(signal.SIGINT)
        return real(*given, **named)

    monkeypatch.setattr(owner, name, interrupting)
