"""Planted truth: models whose repair is known in numbers, read back by the tool."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from selfrepair import Filter, ReferenceEngine, ReplayEngine, load, measure
from support import planted_windows, roomy, sweep
from zoo.planted import ANSWER, PLANTED, POSITION, TASK

CLOSE = {"abs": 1e-9}
engines = pytest.mark.parametrize("make", [ReferenceEngine, partial(ReplayEngine, fold=2)], ids=["reference", "replay"])
planted = pytest.mark.parametrize("name", PLANTED)


@planted
@engines
@pytest.mark.parametrize("ablation", ["resample", "zero"])
def test_engines_read_the_planted_numbers(name, make, ablation):
    if (name, ablation) == ("constant_writer", "zero"):
        pytest.skip("planted for resampling: zero takes the constant away")
    case = PLANTED[name]()
    unit = (case.layer, case.head)
    ledger = sweep(make(), load(roomy(case.model)), ablation, [unit], case.tokens, case.donors)[unit]

    def at(values):
        return values[0, 0, case.position].numpy()

    assert at(ledger.direct_effect) == pytest.approx(case.direct_effect, **CLOSE)
    assert at(ledger.ablated_direct_effect) == pytest.approx(case.ablated_direct_effect, **CLOSE)
    assert at(ledger.total_effect) == pytest.approx(case.total_effect, **CLOSE)
    assert at(ledger.self_repair) == pytest.approx(case.self_repair, **CLOSE)
    assert at(ledger.lines["heads"]) == pytest.approx(case.heads, **CLOSE)
    assert at(ledger.lines["mlps"]) == pytest.approx(case.mlps, **CLOSE)
    assert at(ledger.norm) == pytest.approx(case.norm, **CLOSE)
    assert at(ledger.post_norms) == 0
    for index, line in np.ndenumerate(at(ledger.by_head)):
        assert line == pytest.approx(case.head_lines.get(index, 0.0), **CLOSE), index
    for layer, line in enumerate(at(ledger.by_mlp)):
        assert line == pytest.approx(case.mlp_lines.get(layer, 0.0), **CLOSE), layer
    for layer, line in enumerate(at(ledger.by_attention)):
        lines = sum(v for (at_layer, _), v in case.head_lines.items() if at_layer == layer)
        assert line == pytest.approx(lines, **CLOSE), layer


@planted
def test_clean_direct_effects_of_other_heads(name):
    case = PLANTED[name]()
    ledgers = sweep(
        ReplayEngine(fold=1), load(roomy(case.model)), "zero", case.clean_heads or None, case.tokens, case.donors
    )
    for unit, effect in case.clean_heads.items():
        measured = ledgers[unit].direct_effect[0, 0, case.position].item()
        assert measured == pytest.approx(effect, **CLOSE), unit


@planted
@engines
def test_measure_reads_the_planted_numbers(name, make):
    """End to end: the filter picks the token, donors find each other, files' columns hold the numbers.

    All heads are ablated; only position 2 counts, so the top half of two tokens is the one with the larger
    direct effect: the planted one, where the head has any.
    """
    case = PLANTED[name]()
    run = measure(
        load(roomy(case.model)),
        planted_windows(),
        ablation="resample",
        filters=["all", Filter("top", 0.5)],
        engine=make(),
        first=POSITION,
        progress=False,
    )
    assert run.outcome["ledger_closes"] and run.outcome["status"] == "complete"
    assert run.windows["donors"].to_pylist() == [[1], [0]]
    rows = run.tokens_frame().set_index(["layer", "head", "window", "position"])
    row = rows.loc[case.layer, case.head, 0, POSITION]
    expected = {
        "direct_effect": case.direct_effect,
        "ablated_direct_effect": case.ablated_direct_effect,
        "total_effect": case.total_effect,
        "self_repair": case.self_repair,
        "repair_heads": case.heads,
        "repair_mlps": case.mlps,
        "repair_post_norms": 0.0,
        "repair_norm": case.norm,
    }
    for quantity, number in expected.items():
        assert row[quantity] == pytest.approx(number, abs=1e-6), quantity
    assert (row["token"], row["target"], row["document"]) == (TASK, ANSWER, "text")
    if case.direct_effect == case.ablated_direct_effect:
        return  # both texts are alike to the head: which one is the top is anybody's guess
    top = run.heads.sel(filter="top 50%", layer=case.layer, head=case.head)
    assert int(top["count"]) == 1
    for quantity, number in expected.items():
        assert float(top[quantity]) == pytest.approx(number, **CLOSE), quantity
    assert float(top.repaired_fraction) == pytest.approx(case.repaired_share, **CLOSE)
    for index, line in np.ndenumerate(top.repair_by_head.values):
        assert line == pytest.approx(case.head_lines.get(index, 0.0), abs=1e-6), index
    for layer, line in enumerate(top.repair_by_mlp.values):
        assert line == pytest.approx(case.mlp_lines.get(layer, 0.0), abs=1e-6), layer
