import json

import numpy as np
import pytest
from made_runs import made_run
from rich.console import Console

from selfrepair.errors import SelfRepairError
from selfrepair.report.captions import donors_needed_note
from selfrepair.report.model_card import card_table, print_model_card
from selfrepair.report.number_formats import share
from selfrepair.report.rows import PARTS
from support import with_heads


@pytest.fixture(scope="module")
def run():
    return made_run(5, 4, windows=9, skip={(3, head) for head in range(4)})


def printed(run, width, **settings):
    console = Console(width=width, record=True, file=open("/dev/null", "w"), color_system=None)  # noqa: SIM115, PTH123
    print_model_card(console, run, **settings)
    return console.export_text()


def test_rows_are_the_model_and_its_measured_layers(run):
    rows = card_table(run, "all")
    assert [row["part"] for row in rows] == ["model", "layer 0", "layer 1", "layer 2", "layer 4"]
    heads = run.heads.sel(filter="all")
    for row in rows:
        cell = heads if row["layer"] is None else heads.sel(layer=row["layer"])
        start = "pooled_" if row["layer"] is None else "layer_"
        for name in ("repaired_fraction", "fraction_mlps_low", "share_worse", "slope_through_origin_standard_error"):
            expected = float(cell[start + name])
            assert row[name] == (expected if np.isfinite(expected) else None)
        assert row["repaired_fraction_unbounded"] == np.isinf(float(cell[start + "repaired_fraction_low"]))
    json.dumps(rows, allow_nan=False)
    assert run.card("all").set_index("part")["repaired_fraction"]["layer 2"] == rows[3]["repaired_fraction"]


def test_the_models_number_is_that_of_its_layers_together(run):
    model, *layers = card_table(run)
    lost = [row["lost_direct_effect"] for row in layers]  # every layer has as many tokens
    repaired = np.dot(lost, [row["repaired_fraction"] for row in layers]) / sum(lost)
    assert model["repaired_fraction"] == pytest.approx(repaired)


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("size", [1, 1e4])
def test_the_card_is_printed_whole(run, width, size):
    shares = ("repaired_fraction", "fraction_heads", "fraction_mlps", "fraction_norm")
    wide = {f"layer_{name}{part}": size * run.heads[f"layer_{name}{part}"] for name in shares for part in PARTS}
    run = with_heads(run, run.heads.assign(wide))
    said = printed(run, width)
    assert "…" not in said and "±" not in said and max(map(len, said.splitlines())) <= width
    for row in card_table(run):
        for name in shares:
            infinite = {"": np.nan, "_low": -np.inf, "_high": np.inf}
            parts = {part: row[name + part] for part in infinite}
            number, interval = share(*(infinite[part] if one is None else one for part, one in parts.items()))
            assert number in said and interval in said
    for part in ("model", "layer 4", "repaired", "by norm", "resample ablation", "top 2% of tokens", "SmolLM2"):
        assert part in said
    assert "layer 3" not in said and "by post-norms" not in said


@pytest.mark.parametrize("width", [60, 100, 140])
def test_unbounded_intervals_are_said_and_their_shares_are_in_brackets(run, width):
    ends = {"layer_repaired_fraction_low": -np.inf, "layer_repaired_fraction_high": np.inf}
    heads = run.heads.copy(deep=True)
    for name in ("fraction_heads", "fraction_mlps", "fraction_norm"):
        heads[f"layer_{name}_low"][:], heads[f"layer_{name}_high"][:] = 0.1, 0.2
    for name, value in ends.items():
        heads[name][:] = value
    unsure = with_heads(run, heads)
    said = printed(unsure, width)
    assert said.count("unbounded") == 4 and said.count("%)") == 4 * 4
    rows = card_table(unsure)
    assert [row["repaired_fraction_unbounded"] for row in rows] == [False, True, True, True, True]
    assert rows[1]["repaired_fraction_low"] is None
    json.dumps(rows, allow_nan=False)


def test_unknown_filters_are_refused(run):
    with pytest.raises(SelfRepairError, match="no filter"):
        card_table(run, "top 3%")


def test_donors_needed_in_words(run):
    assert donors_needed_note(run) == ""
    needed = np.full((5, 4), 3.0)
    needed[0, :2], needed[3] = 7.0, np.nan
    said = donors_needed_note(made_run(5, 4, windows=9))
    assert said == ""
    heads = run.heads.assign(donors_needed=(("layer", "head"), needed))
    words = donors_needed_note(with_heads(run, heads))
    assert "with 3 they" in words and "half of the heads, with 7 of every head" in words
