"""Whole runs on the delta engine: same numbers as on replay, settings in the plan, its own error in the outcome."""

from __future__ import annotations

import numpy as np
import pytest

from selfrepair import Resample, SelfRepairError, measure
from selfrepair.ablation.sites import Head, all_heads
from selfrepair.engine import DeltaEngine
from selfrepair.run.planning import batch_size
from selfrepair.run.planning.batch_size import plan_memory, run_bytes, window_bytes, windows_per_unit
from support import corpus, language_model


def run(engine, name="gpt2", dtype="float32", **options):
    windows = corpus(lengths=(9,) * 7, documents=range(7))
    model = language_model(name, dtype=dtype)
    return measure(model, windows, engine=engine, batch=3, replicates=10, progress=False, **options)


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "mixtral"])
@pytest.mark.parametrize("options", [{}, {"ablation": Resample(2)}], ids=["one donor", "two donors"])
def test_a_run_is_the_same_on_delta(name, options):
    delta, replay = run("delta", name, precision="full", **options), run("replay", name, **options)
    for quantity in ("total_effect", "self_repair", "repair_heads", "repair_mlps", "repair_norm", "repair_by_head"):
        np.testing.assert_allclose(delta.heads[quantity], replay.heads[quantity], atol=2e-5, err_msg=quantity)
    np.testing.assert_array_equal(delta.heads["count"], replay.heads["count"])


def test_the_plan_names_the_engine_and_the_outcome_its_error():
    exact, rounded = run("delta", precision="full"), run("delta", precision="int8")
    assert exact.plan["engine"] == "delta" and exact.plan["engine_settings"]["precision"] == "full"
    assert exact.plan["engine_settings"]["batch"] == 3 and "delta" in exact.plan["engine_reason"]
    assert 0 < exact.outcome["relative_error"] < 1e-4 < rounded.outcome["relative_error"] < 0.05
    assert exact.outcome["numerical_floor"] == rounded.outcome["numerical_floor"] == 0
    assert run("replay").outcome["relative_error"] is None


def test_an_engine_of_ones_own_making_is_taken_as_it_is():
    engine = DeltaEngine("bfloat16", fold=2)
    assert run(engine).plan["engine_settings"] == engine.settings


def test_unknown_precision():
    with pytest.raises(SelfRepairError, match="No precision is called 'int4'"):
        run("auto", precision="int4")


def test_memory_is_planned():
    model = language_model("gpt2")
    window, each = 1.3 * window_bytes(model, 9, 1), 1.3 * run_bytes(model, 9, True)
    roomy = plan_memory(model, 9, True, 1, runs=12, memory=1)
    assert roomy.runs == 12 and roomy.predicted == pytest.approx(120e6 + roomy.windows * (window + 12 * each))
    tight = plan_memory(model, 9, True, 1, runs=12, memory=(window + 5.01 * each) / 1e9)
    assert (tight.windows, tight.runs) == (1, 5)
    settled = plan_memory(model, 9, True, 1, runs=12, memory=2 * (window + 5.01 * each) / 1e9, batch=2)
    assert (settled.windows, settled.runs) == (2, 5)
    with pytest.raises(SelfRepairError, match="--memory"):
        plan_memory(model, 9, True, 1, runs=12, memory=window / 1e9)


def test_units_are_a_few_minutes_or_a_small_share(monkeypatch):
    model, layers = language_model("gpt2"), language_model("gpt2").anatomy.layers
    corpus_of = corpus(lengths=[9] * 1000, documents=range(1000))
    block = sum(value.numel() for value in model.anatomy.blocks[0].module.parameters())
    one = 2 * block * 9  # operations of a window in a block
    monkeypatch.setattr(batch_size, "_CPU_WORK", 35 * layers * one)

    def size(heads: int, draws: int) -> int:
        return windows_per_unit(model, [Head(0, number) for number in range(heads)], draws, corpus_of)

    assert (size(1, 1), size(3, 1), size(1, 6)) == (35, 11, 5)
    assert windows_per_unit(model, [Head(layers - 1, 0)], 1, corpus_of) == 35 * layers
    monkeypatch.setattr(batch_size, "_CPU_WORK", 1)
    assert windows_per_unit(model, all_heads(model.anatomy), 1, corpus_of) == 5  # a 200th of the text
    monkeypatch.setattr(batch_size, "UNIT_TOKENS", 20)
    assert windows_per_unit(model, all_heads(model.anatomy), 1, corpus_of) == 2
    monkeypatch.setattr(batch_size, "UNIT_TOKENS", 1)
    assert windows_per_unit(model, all_heads(model.anatomy), 1, corpus_of) == 1


def test_a_batch_is_no_larger_than_a_unit():
    model = language_model("gpt2")
    assert plan_memory(model, 9, True, 1, runs=12, most=3).windows == 3
    assert plan_memory(model, 9, True, 1, runs=12, most=3, batch=4).windows == 4


def test_waves_of_few_runs_give_the_same():
    whole, waves = run(DeltaEngine(fold=2)), run(DeltaEngine(fold=2, runs=5))
    np.testing.assert_allclose(waves.heads["self_repair"], whole.heads["self_repair"], atol=1e-6)


def test_the_floor_is_measured_once_in_so_many_tokens(monkeypatch):
    measured = []
    monkeypatch.setattr(batch_size, "_CPU_WORK", 1)  # units of one window
    monkeypatch.setattr("selfrepair.run.planning.job.UNIT_TOKENS", 4 * 9)
    monkeypatch.setattr("selfrepair.run.unit.sweep.numerical_floor", lambda *_: measured.append(1e-9) or (1e-9, 1e-3))
    windows = corpus(lengths=(9,) * 10, documents=range(10))
    found = measure(language_model("gpt2"), windows, heads=[(2, 0)], replicates=10, progress=False)
    assert found.outcome["units"] == 10 and len(measured) == 3
    assert found.heads.attrs["numerical_floor"] == 1e-9
