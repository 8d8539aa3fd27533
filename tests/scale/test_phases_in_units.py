"""A run in two phases is the same bit for bit, whoever did its units and in whatever order, and merges over texts."""

from __future__ import annotations

import numpy as np
import pytest
from scale_support import assert_same, assert_same_bits, copy, halves, prepare, resume, sweep_units, text

from selfrepair import combine, load
from selfrepair.run import measure as measuring
from selfrepair.run.planning.reload import load_job

SETTINGS = {"surrogate": "own", "exact_share": 0.4, "filters": ("all", "top:0.1"), "batch": 2}


@pytest.fixture(scope="module")
def model(models):
    return load(str(models("llama")), device="cpu")


@pytest.fixture(scope="module")
def done(model, tmp_path_factory):
    place = tmp_path_factory.mktemp("phases")
    prepared = prepare(place / "prepared", model, **SETTINGS)
    finished = copy(prepared, place / "finished")
    return prepared, finished, resume(finished, model)


def test_there_are_units_with_and_without_an_exact_part(done):
    job = load_job(done[0], None)
    exact = [job.counted[windows].any() for windows in job.units]
    assert len(exact) > 3 and any(exact)
    for number in range(len(job.units)):
        for batch in job.batches(number):
            assert len({bool(job.counted[window].any()) for window in batch}) == 1


def test_units_done_again_and_in_another_order_give_the_same_bits(done, model, tmp_path):
    prepared, finished, expected = done
    place = copy(prepared, tmp_path / "again")
    (place / "units").mkdir()
    for number, path in enumerate(sorted((finished / "units").iterdir())):
        if not (path.name.startswith("sweep") and number % 2):
            (place / "units" / path.name).write_bytes(path.read_bytes())
    assert len(sweep_units(place)) < len(sweep_units(finished))
    assert_same(resume(place, model), expected)


def test_parts_from_two_machines_merge_to_the_same_bits(done, tmp_path):
    prepared, finished, expected = done
    parts = halves(finished, prepared, tmp_path)
    merged = combine(parts, tmp_path / "whole")
    for name in expected.heads.data_vars:
        assert_same_bits(merged.heads[name].values, expected.heads[name].values, name)


def test_runs_on_two_texts_add_their_estimated_sums(done, model, tmp_path):
    _, finished, first = done
    other = prepare(tmp_path / "other", model, text(windows=8, seed=9), **SETTINGS)
    second = resume(other, model)
    both = combine([finished, other], tmp_path / "both")
    assert both.plan["phases"]["documents"] == sum(run.plan["phases"]["documents"] for run in (first, second))
    counts = [run.heads["count"].values for run in (first, second, both)]
    assert np.array_equal(counts[0] + counts[1], counts[2])
    means = [run.heads["self_repair"].values for run in (first, second, both)]
    expected = (means[0] * counts[0] + means[1] * counts[1]) / counts[2]
    assert np.allclose(means[2], expected, atol=1e-6, equal_nan=True)


def test_an_interrupted_run_keeps_what_it_has(done, model, tmp_path, monkeypatch):
    """Stopped in the middle of a unit's exact part: heads not reached are estimated from fewer tokens, and going on
    gives the same bits as never stopping."""
    from selfrepair.run.unit.sums import UnitSums

    prepared, _, expected = done
    place, added = copy(prepared, tmp_path / "stopped"), []
    add = UnitSums.add

    def stopping(book, effects):
        added.append(1)
        if len(added) == 5:
            raise KeyboardInterrupt
        add(book, effects)

    monkeypatch.setattr(UnitSums, "add", stopping)
    run = measuring.carry_out(load_job(place, model), place, 1, "processes", progress=False, keep=False)
    monkeypatch.undo()
    assert run.outcome["status"] == "interrupted" and (run.heads["count"].sel(filter="top 10%").values > 0).any()
    assert_same(resume(place, model), expected)
