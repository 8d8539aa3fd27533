"""A run cut into units gives what one computation over all tokens gives."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from scale_support import PER_DOCUMENT, WINDOWS, assert_same, copy, prepare, resume, text

from selfrepair import load
from selfrepair.engine.clean import clean_run
from selfrepair.run import measure as measuring
from selfrepair.run.gathering.all_texts import measured_text, pool_of
from selfrepair.run.gathering.merged_run import merged
from selfrepair.run.planning import job as jobs
from selfrepair.run.planning import run_plan
from selfrepair.run.planning.batch_size import tokens_of
from selfrepair.run.planning.reload import load_job
from selfrepair.run.scheduling import unit_loop
from selfrepair.run.storage.store import Store
from selfrepair.run.unit import survey, sweep
from selfrepair.statistics.accumulate import QUANTITIES
from selfrepair.statistics.curves import CurveMoments
from zoo import families

ALL_TOKENS = 10**6
FILTERS = ("all", "top:0.1", "bottom:0.05", "top:0.02")


@pytest.fixture(scope="module")
def model(models):
    return load(str(models("llama")), device="cpu")


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """A run that kept every token of every head."""
    place = prepare(tmp_path_factory.mktemp("exact") / "whole", model, sample=ALL_TOKENS, filters=FILTERS)
    return place, resume(place, model=model)


@pytest.fixture(scope="module")
def every_token(whole):
    """Quantities by name, [layer, head, token]."""
    place, run = whole
    frame = run.tokens_frame().sort_values(["layer", "head", "window", "position"])
    tokens = int(load_job(place).scored.sum())
    assert len(frame) == families.LAYERS * families.HEADS * tokens
    shape = (families.LAYERS, families.HEADS, tokens)
    return {name: frame[name].to_numpy().reshape(shape) for name in (*QUANTITIES, "window", "position")}


def chosen(effects: np.ndarray, label: str) -> np.ndarray:
    """Which tokens pass, by sorting; [layer, head, token]."""
    kind, _, percent = label.partition(" ")
    if kind == "all":
        return np.ones(effects.shape, bool)
    kept = max(1, int(float(percent.rstrip("%")) / 100 * effects.shape[-1]))
    ordered = np.sort(effects, axis=-1)
    return effects >= ordered[..., -kept, None] if kind == "top" else effects <= ordered[..., kept - 1, None]


def test_thresholds_are_exact_quantiles(whole, every_token):
    _, run = whole
    effects = every_token["direct_effect"]
    for label in run.filters[1:]:
        limit = np.where(chosen(effects, label), np.abs(effects), np.inf).argmin(-1)
        expected = np.take_along_axis(effects, limit[..., None], -1)[..., 0]
        assert np.array_equal(run.heads["threshold"].sel(filter=label).values, expected.astype(np.float64)), label


def test_thresholds_are_those_of_all_direct_effects_at_once(whole, model):
    """From one clean pass over the whole corpus, whose batch is another: equal but for rounding."""
    place, run = whole
    job = load_job(place, model)
    with model.running():
        clean = clean_run(model, tokens_of(job.windows, np.arange(WINDOWS), model))
        effects = np.stack([clean.direct_effects(layer).numpy()[job.scored].T for layer in range(families.LAYERS)])
    top = np.sort(effects, -1)[..., -int(0.1 * effects.shape[-1])]
    np.testing.assert_allclose(run.heads["threshold"].sel(filter="top 10%").values, top, rtol=1e-4, atol=1e-5)


def test_filtered_means_are_brute_force_means(whole, every_token):
    _, run = whole
    for label in run.filters:
        passing = chosen(every_token["direct_effect"], label)
        heads = run.heads.sel(filter=label)
        assert np.array_equal(heads["count"], passing.sum(-1))
        documents = every_token["window"] // PER_DOCUMENT
        for layer, head in np.ndindex(families.LAYERS, families.HEADS):
            inside = passing[layer, head]
            assert heads["documents"].values[layer, head] == len(np.unique(documents[layer, head][inside]))
            for name in QUANTITIES:
                mean = every_token[name][layer, head][inside].astype(np.float64).mean()
                np.testing.assert_allclose(heads[name].values[layer, head], mean, rtol=1e-10, atol=1e-12)


def test_kept_tokens_are_the_tails_and_the_sample(model, every_token, tmp_path):
    sample = 7
    place = prepare(tmp_path / "run", model, sample=sample, filters=FILTERS)
    run = resume(place, model=model)
    frame = run.tokens_frame()
    effects = every_token["direct_effect"]
    tails = {"top": chosen(effects, "top 20%"), "bottom": chosen(effects, "bottom 10%")}
    sampled = frame[frame["in_sample"]].groupby(["layer", "head"])
    places = [set(zip(rows["window"], rows["position"], strict=True)) for _, rows in sampled]
    assert len(places) == families.LAYERS * families.HEADS
    assert all(one == places[0] and len(one) == sample for one in places)
    for layer, head in np.ndindex(families.LAYERS, families.HEADS):
        rows = frame[(frame["layer"] == layer) & (frame["head"] == head)]
        kept = set(zip(rows["window"], rows["position"], strict=True))
        expected = set(places[0])
        for kind, inside in tails.items():
            here = inside[layer, head]
            windows, positions = (every_token[name][layer, head] for name in ("window", "position"))
            tail = set(zip(windows[here], positions[here], strict=True))
            named = rows[rows["kept_as"] == kind]
            found = set(zip(named["window"], named["position"], strict=True))
            order = np.argsort(effects[layer, head] * (-1 if kind == "top" else 1), kind="stable")[: len(found)]
            assert found >= tail, "and on a small corpus as many more as a resampling may ask for, in their order"
            assert found == set(zip(windows[order], positions[order], strict=True))
            expected |= found
        assert kept == expected and len(kept) == len(rows)


@pytest.mark.parametrize("ablation", ["resample", "mean", "position-mean"])
def test_the_size_of_units_changes_nothing_but_rounding(model, tmp_path, ablation):
    """Documents are longer than a unit here, so that they would be cut if they were not kept together."""
    windows = text(windows=WINDOWS, per_document=8)
    small, large = (
        resume(prepare(tmp_path / str(size), model, windows, size, ablation=ablation), model=model)
        for size in (1, 10**6)
    )
    assert small.outcome["units"] > large.outcome["units"] == 1
    for name in large.heads.data_vars:
        if large.heads[name].dtype.kind == "f":
            np.testing.assert_allclose(small.heads[name], large.heads[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.fixture(scope="module")
def long_documents(model, tmp_path_factory):
    """Three documents of 42 windows each: in one unit, and cut over eleven units of four windows or a part of them."""
    windows, place = text(windows=126, per_document=42), tmp_path_factory.mktemp("long")
    made = [
        prepare(place / str(size), model, windows, size, batch=4, sample=ALL_TOKENS, heads=[(1, 0), (1, 2)])
        for size in (1, 10**6)
    ]
    with mock.patch.object(jobs, "_STRETCH", 1):  # units stay small, whatever they cut
        return [resume(folder, model) for folder in made]


def test_documents_longer_than_several_units(long_documents):
    """Every mean and every error, those of component lines and curves too: documents are joined before squares."""
    small, large = long_documents
    assert small.outcome["units"] == 32 and large.outcome["units"] == 1
    for name in large.heads.data_vars:
        if large.heads[name].dtype.kind == "f":
            np.testing.assert_allclose(small.heads[name], large.heads[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_the_curve_of_documents_in_many_units_is_that_of_their_tokens(long_documents):
    run = long_documents[0]
    frame = run.tokens_frame()
    for (layer, head), rows in frame.groupby(["layer", "head"]):
        edges = run.heads["curve_lower_edge"].sel(layer=layer, head=head).values[1:]
        bins = np.searchsorted(edges.astype(np.float32), rows["direct_effect"], side="right")
        sums = np.zeros((2, 3, len(edges) + 1))
        np.add.at(sums[0], (rows["window"] // 42, bins), rows["self_repair"])
        np.add.at(sums[1], (rows["window"] // 42, bins), 1)
        expected, found = CurveMoments.of(*sums).mean(), run.heads.sel(layer=layer, head=head)
        np.testing.assert_allclose(found["curve_self_repair"], expected.value, rtol=1e-5, atol=1e-6)
        error = found["curve_self_repair_standard_error"]
        np.testing.assert_allclose(error, expected.standard_error, rtol=1e-4, atol=1e-6)


def test_units_may_be_done_in_any_order(run):
    place, expected = run
    job = load_job(place)
    store = Store(place, run_plan.identity(job.plan))
    silent = lambda _amount: None  # noqa: E731
    order = np.random.default_rng(0).permutation(len(job.units)).tolist()
    for number in order:
        store.write(survey.STAGE, number, survey.survey_unit(job, number, silent))
    surveyed = unit_loop.merged_survey(job, store)
    for number in reversed(order):
        swept = sweep.sweep_unit(job, number, surveyed.starting_with(""), silent)
        store.write(sweep.STAGE, number, swept, [surveyed.digest])
    assert_same(merged(pool_of(measured_text(job, store)), job.plan, place, "complete", 0.0), expected)


def test_several_donors(model, tmp_path):
    """Three donors: token by token the mean of three runs with one donor each, and as proof against a kill."""
    three = prepare(tmp_path / "three", model, donors=3, sample=ALL_TOKENS)
    run = resume(three, model=model)
    frames = []
    for donor in range(3):
        job = load_job(
            copy(prepare(tmp_path / f"plan {donor}", model, sample=ALL_TOKENS), tmp_path / str(donor)), model
        )
        one = replace(job, donors=load_job(three, model).donors[:, [donor]])
        frames.append(measuring.carry_out(one, tmp_path / str(donor), 1, "processes", False, keep=False).tokens_frame())
    together = run.tokens_frame()
    for name in ("total_effect", "self_repair", "repair_mlps", "ablated_direct_effect"):
        draws = np.stack([frame[name].to_numpy(np.float64) for frame in frames])
        np.testing.assert_allclose(together[name], draws.mean(0), rtol=1e-4, atol=2e-6)


def test_filters_wider_than_any_cap_keep_all_their_tokens(model, tmp_path):
    """More tokens in a filter than a fixed number of kept ones: 12,000 tokens, nine tenths of them in the filter."""
    windows = text(windows=1000, length=14, per_document=10)
    place = prepare(
        tmp_path / "run", model, windows, 10**6, heads=[(2, 1)], filters=["top:0.9"], batch=200, components="none"
    )
    heads = resume(place, model=model).heads.sel(filter="top 90%", layer=2, head=1)
    assert int(heads["count"]) == int(0.9 * 12_000)
