"""`merge`: parts of one run, and runs on several texts; what belongs together, and what does not."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from scale_support import UNITS, assert_same, copy, prepare, resume, sweep_units, text

import linearised
from selfrepair import SelfRepairError, Windows, load
from selfrepair.results.run_folder import load_run
from selfrepair.run.gathering.all_texts import measured_text, pool_of
from selfrepair.run.gathering.compare_runs import compare
from selfrepair.run.gathering.merge_folders import combine
from selfrepair.run.planning.reload import load_design, load_job
from selfrepair.run.planning.run_plan import identity
from selfrepair.run.scheduling.run_status import status
from selfrepair.run.storage.store import Store
from selfrepair.run.unit.thresholds import STAGE as THRESHOLDS
from selfrepair.statistics.bootstrap import document_weights
from selfrepair.statistics.features import INDEX

ALL_TOKENS = 10**6
SETTINGS = {"filters": ["all", "top:0.1"], "sample": ALL_TOKENS, "replicates": 12, "heads": [(1, 0), (2, 1)]}


@pytest.fixture(scope="module")
def model(models):
    return load(str(models("gpt2")), device="cpu")


@pytest.fixture(scope="module")
def two(model, tmp_path_factory):
    """Folders of two finished runs, on texts of different size, and the runs."""
    place = tmp_path_factory.mktemp("two")
    made = [
        prepare(place / name, model, text(windows=windows, seed=seed), **SETTINGS)
        for name, windows, seed in (("small", 8, 1), ("large", 14, 2))
    ]
    return {place: resume(place, model) for place in made}


@pytest.fixture(scope="module")
def merged(two, tmp_path_factory):
    """The folder of these merged, and the merged run."""
    place = tmp_path_factory.mktemp("both") / "run"
    return place, combine([*two], place)


@pytest.fixture
def unwritten(monkeypatch):
    """Numbers of merged runs are not written: that takes longer than all the rest of so small a run."""
    monkeypatch.setattr("selfrepair.results.run_folder.write_results", lambda run, _place: run)


# ---------------------------------------------------------------------------------------- parts of one run


def test_parts_of_one_run_become_that_run(run, tmp_path, unwritten):
    place, expected = run
    resume(place)
    parts = [copy(place, tmp_path / name) for name in ("one", "other")]
    for part in parts:
        shutil.copytree(place / "units", part / "units")
    for part, left_out in zip(parts, (range(3), range(3, UNITS)), strict=True):
        for path in sweep_units(part):
            if int(path.name.split("-")[1]) in left_out:
                path.unlink()
    assert_same(combine(parts, tmp_path / "whole"), expected)
    missing = combine(parts[:1], tmp_path / "missing")
    assert missing.outcome["status"] == "3 units missing"
    assert_same(resume(tmp_path / "missing"), expected)


# ------------------------------------------------------------------------------------------ several texts


def test_a_merged_run_is_on_disk(merged):
    assert_same(load_run(merged[0]), merged[1])


def test_documents_of_all_texts_count(merged, two):
    merged, parts = merged[1], two.values()
    assert merged.outcome["status"] == "complete"
    for label in merged.filters:
        of = [part.heads.sel(filter=label) for part in parts]
        found = merged.heads.sel(filter=label)
        counts = [one["count"].values for one in of]
        np.testing.assert_array_equal(found["count"], sum(counts))
        np.testing.assert_array_equal(found["documents"], sum(one["documents"].values for one in of))
        for name in ("self_repair", "total_effect", "lost_direct_effect", "repair_by_mlp"):
            weights = [count.reshape(count.shape + (1,) * (found[name].ndim - 2)) for count in counts]
            with np.errstate(invalid="ignore"):
                mean = sum(one[name].values * n for one, n in zip(of, weights, strict=True)) / sum(weights)
            np.testing.assert_allclose(found[name], mean, rtol=1e-5, atol=1e-6, err_msg=name)
    assert merged.plan["text"]["documents"] == merged.heads.attrs["documents"] == 11
    assert merged.heads.attrs["texts"] == 2


def test_every_replicate_draws_from_all_documents_and_filters_within_each_text(two):
    """Against copying the tokens of each document as often as it was drawn, and filtering what that makes."""
    designs = {place: load_design(place) for place in two}
    pool = pool_of(*(measured_text(design, Store(place, identity(design.plan))) for place, design in designs.items()))
    runs = {designs[place].plan["text"]["fingerprint"]: run for place, run in two.items()}
    drawn = document_weights(11, SETTINGS["replicates"])[:, np.argsort(np.argsort(pool.digests, kind="stable"))]
    shares = np.split(drawn, [len(pool.mergers[0].documents)], axis=1)
    for layer, head in SETTINGS["heads"]:
        expected = np.zeros(len(drawn))
        for merger, weights in zip(pool.mergers, shares, strict=True):
            frame = runs[merger.design.plan["text"]["fingerprint"]].tokens_frame()
            rows = frame[(frame["layer"] == layer) & (frame["head"] == head)]
            expected += [filtered_sum(rows, weight) for weight in weights]
        found = pool.layer(layer).replicates[:, 1, head, INDEX["self_repair"]]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def filtered_sum(rows, weights) -> float:
    """Sum of self-repair over the top tenth of a text in which each document stands so many times."""
    copies = np.repeat(np.arange(len(rows)), weights[rows["window"].to_numpy() // 2])
    effect, repair = (rows[name].to_numpy()[copies] for name in ("direct_effect", "self_repair"))
    kept = max(1, int(0.1 * len(copies)))
    return repair[effect >= np.sort(effect)[-kept]].sum(dtype=np.float64) if len(copies) else 0.0


def test_curves_take_the_documents_of_both_texts(merged, two):
    sums = []
    for place, run in two.items():
        edges = run.heads["curve_lower_edge"].sel(layer=1, head=0).values[1:].astype(np.float32)
        rows = run.tokens_frame().query("layer == 1 and head == 0")
        bins = np.searchsorted(edges, rows["direct_effect"], side="right")
        found = np.zeros((2, load_design(place).plan["text"]["documents"], len(edges) + 1))
        np.add.at(found[0], (rows["window"] // 2, bins), rows["self_repair"])
        np.add.at(found[1], (rows["window"] // 2, bins), 1)
        sums.append(found)
    expected = linearised.mean(*np.concatenate(sums, 1))
    curve = merged[1].heads["curve_self_repair"].sel(layer=1, head=0)
    np.testing.assert_allclose(curve, expected.value, rtol=1e-5, atol=1e-6)


def test_the_tables_of_a_merged_run_name_its_own_windows(merged):
    run = merged[1]
    frame, windows = run.tokens_frame(), run.windows.to_pylist()
    assert set(frame["window"]) == set(range(22))
    for row in frame.sample(50, random_state=0).to_dict("records"):
        window = windows[row["window"]]
        assert window["tokens"][row["position"]] == row["token"]
        assert window["document"] == [row["document"]]
    names = {name for window in windows for name in window["document"]}
    assert len(names) == 11 and all(name.startswith("text ") for name in names), "both call theirs 'document 0'"


def test_donors_stay_in_their_text(merged):
    windows = merged[1].windows.to_pylist()
    texts = [window["document"][0].split(":")[0] for window in windows]
    assert all(texts[donor] == texts[i] for i, window in enumerate(windows) for donor in window["donors"])


def test_the_order_of_folders_does_not_matter(merged, two, tmp_path, unwritten):
    assert_same(combine([*two][::-1], tmp_path / "run"), merged[1])


def test_a_merged_run_can_be_merged_again(merged, two, model, tmp_path, unwritten):
    third = prepare(tmp_path / "third", model, text(windows=6, seed=3), **SETTINGS)
    resume(third, model)
    assert_same(combine([merged[0], third], tmp_path / "again"), combine([third, *two], tmp_path / "at once"))


def test_merged_runs_are_compared_document_by_document(merged, two):
    both = merged[0]
    found = compare(both, both, filter="top 10%")
    assert found.paired and float(found.change.value) == 0 and float(found.change.standard_error) == 0
    assert not compare(both, next(iter(two)), filter="top 10%").paired


def test_a_merged_run_is_not_resumed(merged):
    for function in (load_job, status):
        with pytest.raises(SelfRepairError, match="2 texts") as refusal:
            function(merged[0])
        assert "texts" in refusal.value.fix


# ------------------------------------------------------------------------------------- what is refused


def refused(places, tmp_path) -> str:
    with pytest.raises(SelfRepairError) as refusal:
        combine(places, tmp_path / "out")
    assert not (tmp_path / "out" / "heads.nc").exists() and refusal.value.fix
    return refusal.value.problem


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ablation": "zero"}, "ablation.operator: resample and zero"),
        ({"seed": 5}, "seed: 0 and 5"),
        ({"filters": ["all"]}, "filters: ['all', 'top 10%'] and ['all']"),
        ({"heads": [(1, 0)]}, "heads: "),
        ({"components": "layers"}, "components: heads and layers"),
        ({"first": 2}, "text.first_position: 1 and 2"),
    ],
)
def test_other_settings(two, model, tmp_path, change, said):
    other = prepare(tmp_path / "other", model, text(windows=8, seed=9), **{**SETTINGS, **change})
    assert said in refused([next(iter(two)), other], tmp_path)


def test_another_model_or_window_length(two, model, models, tmp_path):
    longer = prepare(tmp_path / "longer", model, text(windows=8, length=14, seed=9), **SETTINGS)
    assert "text.positions: 12 and 14" in refused([next(iter(two)), longer], tmp_path)
    other = prepare(tmp_path / "other", models("llama"), text(windows=8, seed=9), **SETTINGS)
    assert "model.weights: " in refused([next(iter(two)), other], tmp_path)


def test_a_text_cut_another_way(two, model, tmp_path):
    again = prepare(tmp_path / "again", model, text(windows=8, seed=1), **{**SETTINGS, "batch": 4})
    assert "count twice" in refused([next(iter(two)), again], tmp_path)


def test_texts_that_share_a_document(two, model, tmp_path):
    first, other = text(windows=8, seed=1), text(windows=8, seed=7)
    tokens = other.tokens.copy()
    tokens[4:6] = first.tokens[[3, 2]]  # its third document says what the second of the first text does
    mixed = Windows(tokens, other.lengths, other.documents, other.names, other.provenance)
    overlapping = prepare(tmp_path / "mixed", model, mixed, **SETTINGS)
    resume(overlapping, model)
    said = refused([next(iter(two)), overlapping], tmp_path)
    assert "share a document" in said and "'document 1'" in said and "'document 2'" in said


def test_what_has_not_been_surveyed(two, model, tmp_path):
    fresh = prepare(tmp_path / "fresh", model, text(windows=8, seed=9), **SETTINGS)
    assert str(fresh) in refused([next(iter(two)), fresh], tmp_path)
    assert not (fresh / "units" / THRESHOLDS).exists() and not (tmp_path / "out").exists()


def test_the_plan_of_a_merged_run_holds_the_plans_of_its_texts(merged, two):
    plan = json.loads((merged[0] / "plan.json").read_text())
    assert [one["text"]["fingerprint"] for one in plan["texts"]] == sorted(
        load_design(place).plan["text"]["fingerprint"] for place in two
    )
