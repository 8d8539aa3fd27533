"""Who covers in a finished run: the same numbers that its results have."""

from __future__ import annotations

import json

import numpy as np
import pytest

from selfrepair import Head, SelfRepairError, each, measure, together
from selfrepair.questions.on_a_run import lines_in_run
from support import corpus, language_model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return measure(language_model("gpt2"), corpus(), ablation="zero", progress=False, out=folder, replicates=20), folder


def test_lines_are_those_of_the_results_largest_first(run):
    measured, _ = run
    table = lines_in_run(measured, "L0H1", "all")
    cell = measured.heads.sel(filter="all", layer=0, head=1)
    assert list(table["line"]) == sorted(table["line"], reverse=True) and len(table)
    for row in table.itertuples():
        layer = int(row.component[1])
        if row.component.endswith("mlp"):
            expected = cell["repair_by_mlp"].values[layer]
        else:
            expected = cell["repair_by_head"].values[layer, int(row.component.split("H")[1])]
        assert row.line == pytest.approx(float(expected)) and row.line_low <= row.line <= row.line_high
    assert table["line"].sum() == pytest.approx(float(cell["repair_heads"] + cell["repair_mlps"]), abs=1e-5)


def test_sets_of_a_run_have_lines_too(tmp_path):
    runs = [*each([Head(0, 1)]), together("both", [Head(0, 0), Head(0, 1)])]
    measured = measure(
        language_model("gpt2"), corpus(), ablation="zero", progress=False, interventions=runs, replicates=20
    )
    assert np.isfinite(lines_in_run(measured, "both", "all")["line"]).all()
    with pytest.raises(SelfRepairError, match="no 'L2H2'"):
        lines_in_run(measured, "L2H2")


def test_the_command_reads_a_folder(selfrepair, run):
    measured, folder = run
    told = json.loads(selfrepair("who", "0.1", "--run", folder, "--json").out)
    assert (
        told["ablated"] == "L0H1"
        and told["components"][0]["component"] == lines_in_run(measured, "L0H1")["component"].iloc[0]
    )
    shown = " ".join(selfrepair("who", "L0H1", "--run", folder).out.split())
    assert "Who covers for L0H1" in shown and "95% intervals over documents" in shown
    refused = selfrepair("who", "L0H1", "--run", folder, "--prompt", "1, ", "--answer", "2")
    assert refused.code == 1 and "A run and prompts were given" in refused.said
