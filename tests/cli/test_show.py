"""`selfrepair show`."""

import json
import re
from functools import cache

import numpy as np
import pytest
import xarray as xr

from loading.fixtures import SHORT
from selfrepair.results import run_folder

QUANTITIES = ("direct_effect", "lost_direct_effect", "total_effect", "self_repair", "repair_mlps", "sigma_ratio")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("shown") / "run"


@pytest.fixture
def show_folder(selfrepair, llama, place):
    if not place.exists():
        assert selfrepair("run", llama, *SHORT, "--out", place).code == 0
    return lambda *options, **more: selfrepair("show", place, *options, **more)


@pytest.fixture(scope="module")
def load_once():
    """Reads a folder as `show` does, but only once: that takes ten times as long as printing the tables."""
    return cache(run_folder.load_run)


@pytest.fixture
def show(show_folder, load_once, monkeypatch):
    monkeypatch.setattr(run_folder, "load_run", load_once)
    return show_folder


def names(out: str) -> list[str]:
    return [line.split()[0] for line in out.splitlines() if line.startswith("L")]


def test_the_tables_again(show_folder):
    ended = show_folder()
    assert ended.code == 0 and ended.err == ""
    assert len(names(ended.out)) == 12 and "resample ablation" in ended.out and "lost DE" in ended.out


def test_json_says_what_heads_nc_says(show_folder, place):
    heads = xr.load_dataset(place / "heads.nc", engine="h5netcdf")
    found = json.loads(show_folder("--json", "--filter", "all", "--top", 99).out)
    assert found["outcome"]["status"] == "complete" and len(found["heads"]) == 12
    heads = heads.set_index(intervention="name").sel(filter="all")
    for row in found["heads"]:
        cell = heads.sel(intervention=row["name"])
        assert row["name"] == f"L{row['layer']}H{row['head']}" and row["filter"] == "all"
        assert (int(cell["layer"]), int(cell["head"])) == (row["layer"], row["head"])
        assert row["count"] == int(cell["count"])
        for name in QUANTITIES:
            for part in ("", "_standard_error", "_low", "_high"):
                np.testing.assert_equal(row[name + part], float(cell[name + part]))


@pytest.mark.parametrize("column", ["self_repair", "total_effect", "repaired_fraction", "layer"])
@pytest.mark.parametrize("ascending", [False, True])
def test_sort(show, column, ascending):
    ended = show("--json", "--sort", column, *(["--ascending"] if ascending else []))
    assert ended.code == 0, ended
    rows = json.loads(ended.out)["heads"]
    values = [row[column] for row in rows]
    assert values == sorted(values, reverse=not ascending)


def test_the_card(show):
    ended = show("--card", "--filter", "all")
    assert ended.code == 0 and not names(ended.out)
    assert [word in ended.out for word in ("model", "layer 0", "layer 2", "by norm", "filter: all tokens")] == [
        True
    ] * 5
    rows = json.loads(show("--json", "--filter", "all").out)["card"]
    assert [row["part"] for row in rows] == ["model", "layer 0", "layer 1", "layer 2"]


def test_the_order_is_said(show):
    assert "Heads by self-repair, smallest first" in show("--sort", "self_repair", "--ascending").out


def test_every_printed_heading_is_a_column_to_sort_by(show):
    out = show(columns=200).out
    heading = next(line for line in out.splitlines() if line.startswith("head "))
    headings = re.split(r"\s{2,}", heading.strip())
    assert {"head", "lost DE", "self-repair", "repaired", "largest repairer", "docs", "label"} <= set(headings)
    for one in headings:
        for spelled in (one, one.upper(), one.replace(" ", "_").replace("-", "_")):
            ended = show("--sort", spelled, "--top", 3)
            assert ended.code == 0 and len(names(ended.out)) == 3, (spelled, ended)
    fractions = [row["repaired_fraction"] for row in json.loads(show("--json", "--sort", "repaired").out)["heads"]]
    assert fractions == sorted(fractions, reverse=True)
    assert names(show("--sort", "head", "--ascending").out)[:2] == ["L0H0", "L0H1"]


@pytest.mark.parametrize(
    ("filter", "said"), [("all", "all tokens"), ("bottom 2%", "bottom 2%"), ("bottom", "bottom 2%")]
)
def test_filter(show, filter, said):
    assert f"filter: {said}" in show("--filter", filter).out.replace("each head's ", "")


@pytest.mark.parametrize(
    ("layers", "there"),
    [
        ("1", {"1"}),
        ("0,2", {"0", "2"}),
        ("1-2", {"1", "2"}),
        ("L1", {"1"}),
        ("l0, L2", {"0", "2"}),
        ("L1-L2", {"1", "2"}),
    ],
)
def test_layers(show, layers, there):
    assert {name[1] for name in names(show("--layers", layers).out)} == there


def test_top(show):
    assert len(names(show("--top", 5).out)) == 5


@pytest.mark.parametrize("columns", [60, 80, 100, 140])
def test_lines_fit_the_terminal(show, columns):
    ended = show(columns=columns)
    assert max(len(line.rstrip()) for line in ended.out.splitlines()) <= columns
    assert len(names(ended.out)) == 12 and "self-repair" in ended.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sort", "charm"], "Columns are: name, layer"),
        (["--filter", "charm"], "Its filters are: all, top 2%, bottom 2%"),
        (["--layers", "9"], "Layers are 0 to 2"),
        (["--layers", "few"], "Write layers as"),
        (["--layers", "2-1"], "Write layers as"),
        (["--layers", "L1H2"], "Write layers as"),
        (["--layers", "0-99999999999999999999"], "Write layers as"),
        (["--layers", "0-999999999"], "Layers are 0 to 2"),
    ],
)
def test_what_cannot_be_shown_says_what_can(show, options, said):
    ended = show(*options)
    assert ended.code == 1 and said in ended.said and ended.out == ""


def test_a_folder_that_is_not_there(selfrepair, tmp_path):
    ended = selfrepair("show", tmp_path / "none")
    assert ended.code == 1 and "no results folder" in ended.said and "Give the folder that a run wrote" in ended.said


def test_a_folder_that_is_something_else(selfrepair, llama):
    ended = selfrepair("show", llama)
    assert ended.code == 1 and "has no plan.json" in ended.said
