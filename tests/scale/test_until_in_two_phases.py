"""Runs in two phases that stop early: they stop where their own estimates say so, whoever computes the units."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scale_support import (
    assert_same,
    assert_same_bits,
    copy,
    halves,
    impatient,
    prepare,
    random_kills,
    resume,
    sweep_every_unit,
    text,
    workers_start_quickly,
)

from selfrepair import combine, load
from selfrepair.report.captions import phases as phases_in_words
from selfrepair.report.captions import stopping_note
from selfrepair.run.planning.exact_part import evenly_spaced, spread_part
from selfrepair.run.planning.reload import load_job
from selfrepair.statistics.stopping import StopRule
from selfrepair.statistics.two_phase_moments import PhaseSums, TwoPhaseMoments

DOCUMENTS, PER_UNIT, SHARE = 160, 4, 0.5
FILTER, HEADS = "top 20%", [(1, 0), (2, 3)]
FEW = {"heads": HEADS, "components": "layers", "filters": ["all", "top:0.2"], "batch": PER_UNIT, "replicates": 200}
PHASES = {"surrogate": "own", "exact_share": SHARE}


@pytest.fixture(scope="module")
def model(models):
    return load(str(models("gpt2")), device="cpu")


def planned(place, model, **settings):
    corpus = text(windows=DOCUMENTS, per_document=1)
    return prepare(place, model, corpus, **{"sample": 10**6, **FEW, **settings})


@pytest.fixture(scope="module")
def every_token(model, tmp_path_factory):
    """All tokens of runs that go on to their end: measured exactly, and at their own position."""
    places = tmp_path_factory.mktemp("whole")
    runs = [resume(planned(places / where, model, positions=where, engine="auto"), model) for where in ("all", "own")]
    return [run.tokens_frame() for run in runs]


def stopping_run(place, model, of, target, **settings):
    place = planned(place, model, until_se=target, until=of, **PHASES, **settings)
    return place, resume(place, model)


def sums_of(frame, thresholds, column):
    """Sums of a column per document, here a window, and head, over the tokens that pass the survey's limit."""
    found = np.zeros((DOCUMENTS, len(HEADS)))
    for place, (layer, head) in enumerate(HEADS):
        rows = frame[(frame["layer"] == layer) & (frame["head"] == head)]
        rows = rows[rows["direct_effect"] >= thresholds[layer, head]]
        values = {"tokens": 1.0, "lost": rows["direct_effect"] - rows["ablated_direct_effect"]}
        np.add.at(found[:, place], rows["window"], values.get(column, rows.get(column)))
    return found


def phases_of(every_token, run, job):
    exact, cheap = every_token
    thresholds = run.heads["threshold"].sel(filter=FILTER).values.astype(np.float32)
    part = np.isin(np.arange(DOCUMENTS), job.exact_documents)[:, None]
    tokens = sums_of(cheap, thresholds, "tokens")
    repair = [sums_of(frame, thresholds, "self_repair") for frame in (cheap, exact)]
    return PhaseSums(repair[0], repair[1] * part, tokens, tokens * part), sums_of(cheap, thresholds, "lost")


def expected_stop(sums, lost, order, of, target):
    """How many units are enough, and the estimate then, by looking at the documents of the first unit, and so on."""
    rule, last = StopRule(target, DOCUMENTS), 0
    for units in range(1, len(order) + 1):
        read = np.concatenate(order[:units])
        some = PhaseSums(*(column[read] for column in sums))
        estimate = (
            TwoPhaseMoments.of_means(some) if of == "heads" else TwoPhaseMoments.of_ratio(some, lost[read].sum(1))
        )
        if rule.due(units * PER_UNIT, last):
            last = units * PER_UNIT
            if rule.reached(estimate, ratio=of == "card").all():
                break
    return units, estimate


@pytest.mark.parametrize(("of", "target"), [("card", 0.5), ("heads", 0.15)])
def test_a_run_stops_where_its_own_tokens_say_with_the_error_that_it_reports(model, every_token, tmp_path, of, target):
    place, run = stopping_run(tmp_path / "run", model, of, target)
    job = load_job(place, model)
    units, estimate = expected_stop(*phases_of(every_token, run, job), job.units, of, target)
    assert 8 < units < len(job.units), "neither at once nor never: the case says something"
    said = run.outcome["until"]
    assert run.outcome["units"] == units and said["reached"] and said["documents"] == units * PER_UNIT
    assert said["exact_documents"] == units * PER_UNIT * SHARE
    assert (said["high"] - said["low"]) / 2 <= 1.96 * target * 1.001
    plain = estimate.mean() if of == "heads" else estimate.ratio()
    errors = np.reshape(plain.standard_error, -1)
    assert np.isclose(errors, said["reached_standard_error"], rtol=1e-3).any()
    heads = run.heads.sel(filter=FILTER)
    if of == "card":
        assert said["low"] < float(heads["pooled_repaired_fraction"]) < said["high"]
        reported = [float(heads["pooled_repaired_fraction_standard_error"])]
    else:
        reported = [float(heads["self_repair_standard_error"][head]) for head in HEADS]
    np.testing.assert_allclose(errors, reported, rtol=0.3)  # the bootstrap chooses tokens again in each replicate


def test_the_finished_run_is_of_the_documents_read(model, every_token, tmp_path):
    place, run = stopping_run(tmp_path / "run", model, "heads", 0.15)
    job = load_job(place, model)
    read = np.concatenate(job.units[: run.outcome["units"]])
    kept = run.tokens_frame()
    assert set(kept["window"]) <= set(read.tolist()) & set(job.exact_documents.tolist())
    exact, cheap = every_token
    thresholds = run.heads["threshold"].sel(filter=FILTER).values.astype(np.float32)
    part = np.isin(read, job.exact_documents)
    tokens = sums_of(cheap, thresholds, "tokens")[read]
    both = [sums_of(frame, thresholds, "repair_mlps")[read] for frame in (cheap, exact)]
    expected = both[0].sum(0) / tokens.sum(0) + (both[1] - both[0])[part].sum(0) / tokens[part].sum(0)
    lines = run.heads["repair_by_mlp"].sel(filter=FILTER).sum("by_layer")
    np.testing.assert_allclose([float(lines[head]) for head in HEADS], expected, atol=2e-5)
    words = phases_in_words(run)
    assert f"on {len(read)} documents, exact on {part.sum()}" in words
    assert f"({part.sum()} of them exactly)" in stopping_note(run)
    assert run.outcome["inexact_replicates"] < 0.02


def test_the_error_at_the_stop_is_the_bootstraps_where_no_threshold_is_chosen(model, tmp_path):
    """All tokens, by first-order effects: nothing is chosen again in replicates, so both errors are of one thing."""
    settings = {"filters": ["all"], "until_se": 0.1, "until": "heads", "surrogate": "gradient", "exact_share": SHARE}
    run = resume(planned(tmp_path / "run", model, **settings), model)
    said, heads = run.outcome["until"], run.heads.sel(filter="all")
    assert said["reached"] and said["documents"] < DOCUMENTS
    reported = [float(heads["self_repair_standard_error"][head]) for head in HEADS]
    widest = [f"L{layer}H{head}" for layer, head in HEADS].index(said["head"])
    assert said["reached_standard_error"] == pytest.approx(reported[widest], rel=0.15)
    values = [float(heads["self_repair"][head]) for head in HEADS]
    assert said["estimate"] == pytest.approx(values[widest], abs=1e-6)


def test_all_tokens_without_a_surrogate_of_them_are_those_of_the_exact_part(model, tmp_path):
    """The first filter decides, and there is no top filter: bottom tokens are estimated, all are not."""
    settings = {"filters": ["all", "bottom:0.2"], "until_se": 0.15, "until": "heads", **PHASES}
    place = planned(tmp_path / "run", model, **settings)
    assert not load_job(place, model).watches_estimates
    run = resume(place, model)
    said = run.outcome["until"]
    assert said["filter"] == "all" and said["reached"]
    heads = run.heads.sel(filter="all")
    widest = tuple(int(part) for part in said["head"].removeprefix("L").split("H"))
    assert said["estimate"] == pytest.approx(float(heads["self_repair"][widest]), abs=1e-6)
    assert said["reached_standard_error"] == pytest.approx(float(heads["self_repair_standard_error"][widest]), rel=0.15)


def test_whoever_does_the_units_and_whatever_else_is_done(model, tmp_path, monkeypatch):
    """A run that was killed and resumed, and one with all units computed, the last first, have the same bits."""
    impatient(monkeypatch)
    place, expected = stopping_run(tmp_path / "run", model, "heads", 0.15)
    eager, killed = copy(place, tmp_path / "eager"), copy(place, tmp_path / "killed")
    sweep_every_unit(eager, model)
    assert_same(resume(eager, model), expected)
    random_kills(killed, times=3, seed=2)
    assert_same(resume(killed, model), expected)


def test_workers_stop_together(tmp_path, model, monkeypatch):
    workers_start_quickly(monkeypatch)
    place = planned(tmp_path / "run", model, until_se=0.5, **PHASES)
    alone = copy(place, tmp_path / "alone")
    assert_same(resume(place, model, workers=2), resume(alone, model))


def test_parts_from_two_machines_merge_to_the_same_numbers(model, tmp_path):
    place, expected = stopping_run(tmp_path / "run", model, "heads", 0.15)
    parts = halves(place, copy(place, tmp_path / "prepared"), tmp_path)
    merged = combine(parts, tmp_path / "merged")
    assert merged.outcome["until"] == expected.outcome["until"] and merged.outcome["units_missing"] == 0
    for name in expected.heads.data_vars:
        assert_same_bits(merged.heads[name].values, expected.heads[name].values, name)


@given(documents=st.integers(2, 400), share=st.floats(0.01, 1), seed=st.integers(0, 2**32))
def test_of_however_many_documents_the_exact_part_has_its_share(documents, share, seed):
    number = max(2, round(share * documents))
    order = np.random.default_rng(seed).permutation(documents)
    part = spread_part(order, number, seed)
    assert len(set(part.tolist())) == number and set(part.tolist()) <= set(order.tolist())
    so_far = np.cumsum(np.isin(order, part))
    assert np.abs(so_far - np.arange(1, documents + 1) * number / documents).max() <= 1 + 1e-9


def test_every_place_is_as_likely():
    taken = np.zeros(7)
    for offset in np.linspace(0, 1, 7000, endpoint=False):
        taken[evenly_spaced(7, 3, offset)] += 1 / 7000
    np.testing.assert_allclose(taken, 3 / 7, atol=1e-3)


def test_a_run_that_goes_on_to_its_end_draws_its_part_as_before(model, tmp_path):
    """Numbers of two phases that do not stop stay what they were."""
    job = load_job(planned(tmp_path / "run", model, **PHASES), model)
    shuffled = np.random.default_rng([0, 0x7061727473]).permutation(np.arange(DOCUMENTS))
    assert np.array_equal(job.exact_documents, shuffled[: DOCUMENTS // 2])
