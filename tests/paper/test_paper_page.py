"""All of it on a tiny model: the page, its files, the claims, and text that must not become markup."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from loading.tiny_models import tokenizer
from selfrepair import load, windows
from selfrepair.paper import drawing, interactive, make, noise, overview, page
from selfrepair.paper.claims import CLAIMS, FAILS, HOLDS, MISSING, OPEN, Claim, Verdict, judge
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.numbers import Number
from selfrepair.paper.picture import Marks, Panel, Picture, Rule
from selfrepair.paper.recipe import DEFAULT
from zoo import families


@pytest.fixture(scope="module")
def paper():
    model = load(families.build("llama"), tokenizer())
    text = windows(model.tokenizer, "builtin", tokens=24 * 20, length=24)
    run = make.sweep(model, text, DEFAULT, progress=False)
    study = make.Study(model, text, run, DEFAULT, scan_tokens=96)
    return make.make(study)


@pytest.fixture(scope="module")
def folder(paper, tmp_path_factory):
    place = tmp_path_factory.mktemp("paper")
    page.write(paper, place)
    return place


def test_every_figure_has_its_pictures_and_data(paper, folder):
    assert len(paper.exhibits) >= 18
    for exhibit in paper.exhibits:
        for kind in ("png", "svg", "html") if exhibit.picture else ():
            file = folder / "figures" / f"{exhibit.name}.{kind}"
            assert file.stat().st_size > 2000, file
        data = pd.read_csv(folder / "figures" / f"{exhibit.name}.csv")
        assert len(data) == len(exhibit.table) > 0
    assert "plotly.min.js" in (folder / "figures" / f"{paper.exhibits[0].name}.html").read_text()
    assert (folder / "figures" / "plotly.min.js").stat().st_size > 1e6


def test_captions_name_model_operator_filter_tokens_and_documents(paper):
    for exhibit in paper.exhibits:
        said = exhibit.caption
        assert "LlamaForCausalLM" in said, exhibit.name
        assert any(word in said for word in ("ablation", "ablated", "under each operator")), exhibit.name
        assert "documents" in said or "templates" in said, exhibit.name
        assert "tokens" in said or "prompts" in said, exhibit.name


def test_the_page_shows_all_of_them_in_the_papers_order(paper, folder):
    html = (folder / "index.html").read_text()
    places = [html.index(f'id="{exhibit.name}"') for exhibit in paper.exhibits]
    assert places == sorted(places)
    for claim in CLAIMS:
        assert f"<td>{claim.key}</td>" in html
    facts = json.loads((folder / "paper.json").read_text())
    assert facts["recipe"] == "default" and facts["exhibits"] == [one.name for one in paper.exhibits]
    numbers = pd.read_csv(folder / "numbers.csv")
    assert len(numbers) == sum(len(one.numbers) for one in paper.exhibits)


def test_what_cannot_be_made_is_said_with_its_reason(paper, folder):
    """Characters are no names: the prompts cannot be made."""
    assert set(paper.left_out) == {"ioi"} and "single tokens" in paper.left_out["ioi"]
    assert "Left out" in (folder / "index.html").read_text()


def test_every_claim_finds_its_number(paper):
    missing = {one.claim.key for one in paper.verdicts if one.number is None}
    assert missing == {"C34", "C35"}  # of the prompts


def test_numbers_of_claims_are_those_their_words_mean(paper):
    by_key = {one.claim.key: one.number.name for one in paper.verdicts if one.number is not None}
    assert by_key["C01"].endswith("x = DE") and by_key["C01b"].endswith("x = DE - DE'")
    assert by_key["C08"].endswith("above 1, resample") and by_key["C10"].endswith("above 1, zero")
    assert by_key["C20"].endswith("top neuron repairs more than 10.0% of DE")
    assert by_key["C27"].endswith("own output x 3")


@pytest.mark.parametrize(
    ("number", "verdict"),
    [
        (Number("n", 0.3, 0.25, 0.35), HOLDS),
        (Number("n", 0.3, 0.15, 0.35), OPEN),
        (Number("n", 0.1, 0.0, 0.19), FAILS),
        (Number("n", 0.6, 0.45, 0.7), FAILS),
        (Number("n", 0.3), HOLDS),
        (Number("n", 0.5), FAILS),
        (Number("n", float("nan")), MISSING),
        (None, MISSING),
    ],
)
def test_verdicts_go_by_the_whole_interval(number, verdict):
    assert Verdict(Claim("C", "", "", "figure", "n", (0.2, 0.4), ""), number).verdict == verdict


def test_text_from_data_is_escaped(paper, tmp_path):
    evil = '<script>alert("x")</script>'
    heads = paper.run.heads.assign_attrs(model=evil, text=evil)
    exhibit = replace(paper.exhibits[0], caption=evil, title=evil, numbers=(Number(evil, 1.0),))
    other = make.Paper(replace(paper.run, heads=heads), "default", [exhibit], {"ioi": evil})
    page.write(other, tmp_path)
    assert "<script>" not in (tmp_path / "index.html").read_text()
    assert evil not in (tmp_path / "figures" / f"{exhibit.name}.html").read_text()
    assert evil not in exhibit._repr_html_()


def test_odd_numbers_do_not_stop_a_picture():
    nan, inf = np.array([np.nan, np.nan]), np.array([np.inf, 1.0])
    marks = (
        Marks(nan, nan),
        Marks(np.zeros(0), np.zeros(0)),
        Marks(np.arange(2.0), nan, "line", y_error=np.ones((2, 2))),
        Marks(np.arange(3.0), np.array([0.0, 1.0]), "steps"),
        Marks(np.zeros(1), np.ones(1), "bars"),
        Marks(np.arange(2.0), np.arange(2.0), shade=inf),
    )
    picture = Picture(
        (Panel("t <b>", "x", "y", marks, (Rule(None, 0.5), Rule(-1, label="l"))), Panel("e", "x", "y", ()))
    )
    for kind in ("png", "svg"):
        assert len(drawing.image(picture, "a $x_1$ title", kind)) > 1000
    assert "t &lt;b&gt;" in interactive.page(picture, "<i>") or "t \\u0026lt;b" in interactive.page(picture, "<i>")


def test_overview_numbers_are_those_of_the_rows(paper):
    run = paper.run
    frame = run.tokens_frame().astype({"self_repair": float, "direct_effect": float, "ablated_direct_effect": float})
    limits = run.heads["threshold"].sel(filter="top 2%").values
    top = frame[(frame["kept_as"] == "top") & (frame["direct_effect"] >= limits[frame["layer"], frame["head"]])]
    exhibit = overview.repair_by_depth([run])
    for where, rows in (("all layers", top), ("last quarter of layers", top[top["layer"] == 2])):
        lost = (rows["direct_effect"] - rows["ablated_direct_effect"]).sum()
        found = exhibit.number(f"repaired fraction, {where}").value
        assert found == pytest.approx(rows["self_repair"].sum() / lost, rel=1e-6)
    assert exhibit.table["count"].sum() == len(top)
    between = overview.direct_against_total([run])
    part = run.heads.sel(filter="all")
    x, y = part["direct_effect"].values.ravel(), part["total_effect"].values.ravel()
    wanted = ((x > 0) & (y < 0) & (y > -x)).sum() / (x > 0).sum()
    assert between.numbers[0].value == pytest.approx(wanted)


def test_shares_are_those_of_the_sweep(paper):
    found = noise.shares(paper.run).number("share of tokens over-repaired, all heads").value
    part = paper.run.heads.sel(filter="top 2%")
    assert found == pytest.approx(float((part["share_over_repaired"] * part["count"]).sum() / part["count"].sum()))


def test_heads_of_figure_3_are_what_they_are_called(paper):
    chosen = noise.choose(paper.run)
    assert len({head for head, _ in chosen}) == 4
    part = paper.run.heads.sel(filter="top 2%")
    quiet = next(head for head, why in chosen if why.startswith("hardly"))
    taken = [head for head, why in chosen if why.startswith("repaired")]
    late = [(layer, head) for layer in (1, 2) for head in range(4) if (layer, head) not in taken]
    effects = {head: abs(float(part["direct_effect"][head])) for head in late}
    assert effects[tuple(quiet)] == min(effects.values())
    assert all(float(part["repaired_fraction"][head]) > 0.2 for head in taken)


def test_an_exhibit_says_which_numbers_it_has():
    exhibit = Exhibit("n", "Figure", "s", "t", "c", pd.DataFrame(), (Number("one", 1.0),))
    assert exhibit.number("one").value == 1.0
    with pytest.raises(KeyError, match="no number 'two'"):
        exhibit.number("two")
    assert judge([exhibit])[0].number is None
