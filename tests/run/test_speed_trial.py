"""The speed trial of low-precision products, with each of its outcomes forced: what a run takes, and what it says."""

from __future__ import annotations

import numpy as np
import pytest

from selfrepair import measure
from selfrepair.engine import trial
from selfrepair.run.planning.run_plan import how
from support import corpus, language_model

OUTCOMES = ("bfloat16", "int8", "neither")


def run(**options):
    windows = corpus(lengths=(9,) * 4, documents=range(4))
    model = language_model("gpt2", dtype="float32")
    return measure(model, windows, engine="delta", batch=2, replicates=4, progress=False, **options)


@pytest.mark.parametrize("fast", OUTCOMES)
def test_fast_products_that_are_right_are_taken_and_said(fast, products, monkeypatch):
    monkeypatch.setattr(trial, "TOLERANCE", 0.1)
    monkeypatch.setattr(trial, "MOST_BIAS", 10.0)
    products.outcome(fast)
    plan = run().plan
    expected = "full" if fast == "neither" else fast
    assert plan["engine_settings"]["precision"] == expected
    line = how(plan)
    assert ("--precision full" in line) == (fast != "neither")
    if fast != "neither":
        assert f"{fast} products (3.0 times as fast, off by" in line and "%" in line


@pytest.mark.parametrize("fast", OUTCOMES)
def test_fast_products_that_are_not_right_are_left(fast, products, monkeypatch):
    monkeypatch.setattr(trial, "TOLERANCE", 1e-9)
    products.outcome(fast)
    found = run()
    assert found.plan["engine_settings"]["precision"] == "full"
    assert (f"{fast} would be 3.0 times as fast but off by" in how(found.plan)) == (fast != "neither")


@pytest.mark.parametrize("fast", OUTCOMES)
def test_full_precision_is_the_same_whatever_is_fast(fast, products):
    """A forced precision is not tried: no outcome of the trial changes a bit of the numbers."""
    expected = run(precision="full")
    products.outcome(fast)
    found = run(precision="full")
    assert found.plan["engine_settings"] == expected.plan["engine_settings"]
    for name in ("total_effect", "self_repair", "repair_heads", "repair_norm"):
        np.testing.assert_array_equal(found.heads[name], expected.heads[name], err_msg=name)


@pytest.mark.parametrize("name", ["bfloat16", "int8"])
def test_double_precision_has_no_trial(name, products):
    products.outcome(name)
    windows = corpus(lengths=(9,) * 4, documents=range(4))
    found = measure(language_model("gpt2"), windows, engine="delta", replicates=4, heads=[(2, 0)], progress=False)
    assert found.plan["engine_settings"]["precision"] == "full"
