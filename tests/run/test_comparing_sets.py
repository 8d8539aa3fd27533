"""Runs of sets side by side: by the names of their interventions, on the terminal and from Python."""

import numpy as np
import pytest

from loading.fixtures import selfrepair as selfrepair
from selfrepair import Head, Mlp, SelfRepairError, compare, load_run, measure, together
from selfrepair.report.page.differences import page_differences
from support import corpus, language_model

FEW = {"replicates": 10, "sample": 50, "progress": False, "engine": "replay"}
MOVERS = together("movers", [Head(1, 2), Head(2, 1)])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two runs with other sets in other places; `movers` and the MLP are in both."""
    place, model, text = tmp_path_factory.mktemp("sets"), language_model("gpt2"), corpus()
    sets = {
        "one": ("mean", [together("two heads", [Head(1, 0), Head(1, 1)]), MOVERS, Mlp(1)]),
        "other": ("zero", [Mlp(1), Mlp(0), MOVERS]),
        "apart": ("zero", [Mlp(2)]),
        "heads": ("zero", [Head(2, 1)]),
    }
    for name, (ablation, chosen) in sets.items():
        measure(model, text, ablation=ablation, interventions=chosen, out=place / name, **FEW)
    return place


def test_interventions_are_subtracted_by_name(folders):
    found = compare(folders / "one", folders / "other", "all", "self_repair")
    assert [cell.name for cell in found.cells] == ["movers", "L1.mlp"] and found.paired and found.heads is None
    numbers = [load_run(folders / name).interventions.sel(filter="all") for name in ("one", "other")]
    for place, name in enumerate(["movers", "L1.mlp"]):
        first, second = (float(one["self_repair"].values[one["name"].values == name][0]) for one in numbers)
        assert found.differences.value[place] == pytest.approx(second - first, abs=1e-9)
        assert found.differences.low[place] <= found.differences.value[place] <= found.differences.high[place]
    for number, one in zip(found.each, numbers, strict=True):  # all together: of those that both have
        shared = one.isel(intervention=np.isin(one["name"].values, ["movers", "L1.mlp"]))
        assert float(number.value) == pytest.approx(float(np.average(shared["self_repair"], weights=shared["count"])))


def test_a_run_compares_with_itself(folders):
    found = compare(folders / "one", folders / "one", "all")
    assert len(found.cells) == 3 and (found.differences.value == 0).all()


def test_runs_without_a_common_intervention_are_refused(folders):
    for first, second in (("one", "apart"), ("apart", "heads")):
        with pytest.raises(SelfRepairError, match="no intervention of one name") as caught:
            compare(folders / first, folders / second, "all")
        assert "same name" in caught.value.fix
        places = [folders / first, folders / second]
        (found,) = page_differences([load_run(place) for place in places], places)  # a page can still show them
        assert found["unrelated"] == "the runs have no intervention of one name" and not found["heads"]


def test_the_terminal_names_interventions(folders, selfrepair):
    told = selfrepair("compare", folders / "one", folders / "other", "--filter", "all", "--number", "self_repair")
    said = " ".join(told.out.split())
    assert "all interventions that both runs have together" in said and "Interventions that differ most" in said
    assert "movers" in said and "L1.mlp" in said and "two heads" not in said
    said = selfrepair("show", folders / "one", "--filter", "all").out
    assert "Interventions by direct effect" in said and "tokens per intervention" in said
    for name in ("intervention", "two heads", "movers", "L1.mlp", "what ablations take away"):
        assert name in said
    assert "head  " not in said.split("Mean change")[0]
