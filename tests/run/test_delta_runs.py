"""Whole runs on the delta engine: same numbers as on replay, settings in the plan, its own error in the outcome."""

from __future__ import annotations

import numpy as np
import pytest

from selfrepair import Resample, SelfRepairError, measure
from selfrepair.engine import DeltaEngine
from selfrepair.run.batches import plan_memory, run_bytes, window_bytes
from support import corpus, language_model


def run(engine, name="gpt2", dtype="float32", **options):
    windows = corpus(lengths=(9,) * 7, documents=range(7))
    model = language_model(name, dtype=dtype)
    return measure(model, windows, engine=engine, batch=3, replicates=10, progress=False, **options)


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "mixtral"])
@pytest.mark.parametrize("options", [{}, {"ablation": Resample(2)}], ids=["one donor", "two donors"])
def test_a_run_is_the_same_on_delta(name, options):
    delta, replay = run("delta", name, **options), run("replay", name, **options)
    for quantity in ("total_effect", "self_repair", "repair_heads", "repair_mlps", "repair_norm", "repair_by_head"):
        np.testing.assert_allclose(delta.heads[quantity], replay.heads[quantity], atol=2e-5, err_msg=quantity)
    np.testing.assert_array_equal(delta.heads["count"], replay.heads["count"])


def test_the_plan_names_the_engine_and_the_outcome_its_error():
    exact, rounded = run("delta"), run("delta", precision="int8")
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


def test_waves_of_few_runs_give_the_same():
    whole, waves = run(DeltaEngine(fold=2)), run(DeltaEngine(fold=2, runs=5))
    np.testing.assert_allclose(waves.heads["self_repair"], whole.heads["self_repair"], atol=1e-6)
