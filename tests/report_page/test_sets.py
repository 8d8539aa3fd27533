"""The page of a run of sets: every intervention under its name, with its own numbers."""

import pytest

from selfrepair import Head, Mlp, load_run, measure, together
from selfrepair.report.page import write_page
from support import corpus, language_model

MOVERS = together('movers <b>& "all"</b>', [Head(1, 2), Head(2, 1)])
SETS = {"one": [MOVERS, Mlp(1), together("late", [Head(2, 0), Mlp(2)])], "other": [Mlp(1), Mlp(0), MOVERS]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place, model, text = tmp_path_factory.mktemp("sets"), language_model("gpt2"), corpus()
    few = {"replicates": 10, "sample": 50, "progress": False, "engine": "replay", "filters": ["all", "top:0.2"]}
    for name, chosen in SETS.items():
        measure(model, text, ablation="mean", interventions=chosen, out=place / name, **few)
    return [place / name for name in SETS]


def number(run, name, of, label="all"):
    one = run.interventions.isel(intervention=list(run.interventions["name"].values).index(of))
    return float(one[name].sel(filter=label))


def test_every_view_shows_interventions_by_name(runs, open_page, tmp_path):
    run, page = load_run(runs[0]), open_page(path=write_page(runs[:1], tmp_path / "report.html"))
    tab = page.at("card?filter=all")
    assert "that ablations take away is repaired" in tab.locator(".headline").inner_text()
    tab = page.at("map?filter=all")
    assert tab.locator("h1").inner_text() == "Every intervention"
    names = [link.get_attribute("data-head") for link in tab.locator("a.cell").all()]
    assert sorted(names) == sorted([MOVERS.name, "L1.mlp", "late"])  # and no cell without one
    rows = tab.locator("table tbody tr").all_inner_texts()
    assert len(rows) == 3 and any("L1.mlp" in row for row in rows)
    tab.locator("a.cell[data-head='late']").click()
    page.drawn("L2H0?filter=all")
    assert tab.locator("h1").inner_text() == "late"
    for name in ("self_repair", "total_effect", "repair_mlps", "direct_effect"):
        assert page.number(name) == pytest.approx(number(run, name, "late"), rel=1e-6), name
    tab.keyboard.press("[")
    page.drawn("L1H1?filter=all")
    assert tab.locator("h1").inner_text() == "L1.mlp"
    assert "no such place" in page.at("L0H0").locator("h1").inner_text()
    text = page.at("text/L2H0?filter=all")
    assert "late" in text.locator(".badge").inner_text() and text.locator(".passage a.token").count() > 0


def test_two_runs_of_sets_are_subtracted_by_name(runs, open_page, tmp_path):
    page = open_page(path=write_page(runs, tmp_path / "report.html"))
    tab = page.at("comparison?filter=all")
    section = tab.locator("section", has=tab.locator("h2", has_text="Interventions that differ most"))
    rows = {row.split("\t")[0].strip(): row.split("\t")[1] for row in section.locator("tbody tr").all_inner_texts()}
    assert set(rows) == {MOVERS.name, "L1.mlp"}
    first, second = (number(load_run(place), "self_repair", "L1.mlp") for place in runs)
    assert float(rows["L1.mlp"].replace("−", "-").split()[0]) == pytest.approx(second - first, abs=1e-3)
