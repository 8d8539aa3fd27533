"""All of it on a tiny model: the page, its files, the claims, and text that must not become markup."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from loading.tiny_models import tokenizer
from selfrepair import load, windows
from selfrepair.paper import make
from selfrepair.paper.claims import CLAIMS, OPEN, UNJUDGED
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments import noise, overview
from selfrepair.paper.inputs.recipe import DEFAULT
from selfrepair.paper.numbers.over_documents import Number
from selfrepair.paper.page import paper_folder
from selfrepair.pictures import with_matplotlib, with_plotly
from selfrepair.pictures.picture import Marks, Panel, Picture, Rule
from support import with_heads
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
    folder = tmp_path_factory.mktemp("paper")
    paper_folder.write_paper(paper, folder)
    return folder


@pytest.mark.long
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
        caption = exhibit.caption
        assert "LlamaForCausalLM" in caption, exhibit.name
        assert any(word in caption for word in ("ablation", "ablated", "under each operator")), exhibit.name
        assert "documents" in caption or "templates" in caption, exhibit.name
        assert "tokens" in caption or "prompts" in caption, exhibit.name


def test_the_page_shows_all_of_them_in_the_papers_order(paper, folder):
    html = (folder / "index.html").read_text()
    places = [html.index(f'id="{exhibit.name}"') for exhibit in paper.exhibits]
    assert places == sorted(places)
    for claim in CLAIMS:
        assert f"<td>{claim.key}</td>" in html
    facts = json.loads((folder / "paper.json").read_text())
    assert facts["recipe"] == "default" and facts["exhibits"] == [exhibit.name for exhibit in paper.exhibits]
    numbers = pd.read_csv(folder / "numbers.csv")
    assert len(numbers) == sum(len(exhibit.numbers) for exhibit in paper.exhibits)


def test_what_cannot_be_made_is_said_with_its_reason(paper, folder):
    """Characters are no names: the prompts cannot be made."""
    assert set(paper.left_out) == {"ioi"} and "single tokens" in paper.left_out["ioi"]
    assert "Left out" in (folder / "index.html").read_text()


def test_every_claim_finds_its_number(paper):
    missing = {judged.claim.key for judged in paper.verdicts if judged.number is None and judged.verdict != UNJUDGED}
    assert missing == {"C34", "X10", "X11"}  # of the prompts


def test_every_claim_is_decided_by_an_interval_or_exact(paper):
    for judged in paper.verdicts:
        number = judged.number
        if number is None or np.isnan(number.value):
            continue
        if number.exact:
            assert judged.claim.key in ("X07", "C31a") and "exact" in judged.claim.reading
        elif judged.verdict != OPEN:
            assert number.low < number.high and number.documents > 1, judged.claim.key
        assert np.isnan(number.low) or number.low - 1e-9 <= number.value <= number.high + 1e-9, judged.claim.key
    decided = [
        judged.claim.key for judged in paper.verdicts if judged.number is not None and not np.isnan(judged.number.low)
    ]
    wanted = {"C01", "X01", "C02", "C03", "C12a", "C16", "C19", "X08", "C24", "C25", "C26", "C28", "C29", "C36", "X09"}
    assert wanted <= set(decided)


def test_numbers_of_claims_are_those_their_words_mean(paper):
    by_key = {judged.claim.key: judged.number.name for judged in paper.verdicts if judged.number is not None}
    assert by_key["C01"].endswith("x = DE") and by_key["X01"].endswith("x = DE - DE'")
    assert by_key["C08"].endswith("above 1, resample") and by_key["C10"].endswith("above 1, zero")
    assert by_key["C20"].endswith("top neuron repairs more than 10.0% of DE")
    assert by_key["C27a"].endswith("slope, own output x 3, second half of documents")
    assert by_key["C27c"].endswith("slope less the lower control's, own output x 3, second half of documents")
    assert by_key["C19"].endswith("neuron most frequent in the other half of documents, share of tokens")
    assert by_key["C24"].endswith("of the first 9.1% of ranks")
    assert by_key["C25"].endswith("of ranks from 18.2% to 81.8%")


def test_text_from_data_is_escaped(paper, tmp_path):
    evil = '<script>alert("x")</script>'
    heads = paper.run.heads.assign_attrs(model=evil, text=evil)
    exhibit = replace(paper.exhibits[0], caption=evil, title=evil, numbers=(Number(evil, 1.0),))
    other = make.Paper(with_heads(paper.run, heads), "default", [exhibit], {"ioi": evil})
    paper_folder.write_paper(other, tmp_path)
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
        assert len(with_matplotlib.image(picture, "a $x_1$ title", kind)) > 1000
    assert "t &lt;b&gt;" in with_plotly.picture_page(picture, "<i>") or "t \\u0026lt;b" in with_plotly.picture_page(
        picture, "<i>"
    )


def test_overview_numbers_are_those_of_the_rows(paper):
    run = paper.run
    frame = run.tokens_frame().astype({"self_repair": float, "direct_effect": float, "ablated_direct_effect": float})
    limits = run.heads["threshold"].sel(filter="top 2%").values
    top = frame[(frame["kept_as"] == "top") & (frame["direct_effect"] >= limits[frame["layer"], frame["head"]])]
    exhibit = overview.repair_by_depth([run])
    for where, rows in (("all layers", top), ("last quarter of layers", top[top["layer"] == 2])):
        lost = (rows["direct_effect"] - rows["ablated_direct_effect"]).sum()
        value = exhibit.number(f"repaired fraction, {where}").value
        assert value == pytest.approx(rows["self_repair"].sum() / lost, rel=1e-6)
    assert exhibit.table["count"].sum() == len(top)
    between = overview.direct_against_total([run])
    part = run.heads.sel(filter="all")
    x, y = part["direct_effect"].values.ravel(), part["total_effect"].values.ravel()
    wanted = ((x > 0) & (y < 0) & (y > -x)).sum() / (x > 0).sum()
    assert between.numbers[0].value == pytest.approx(wanted)


def test_layers_ablated_effects_are_those_of_all_tokens(paper):
    """Every token is in the sample here; layers without a clear direct effect are left out."""
    part = paper.run.heads.sel(filter="all")
    values = {
        int(number.name.split()[-1]): number.value
        for number in overview.direct_against_total([paper.run]).numbers
        if "by layer" in number.name
    }
    assert values
    for layer, value in values.items():
        sums = [float(part[name][layer].sum()) for name in ("ablated_direct_effect", "direct_effect")]
        assert value == pytest.approx(sums[0] / sums[1], rel=1e-4)


def test_shares_are_those_of_the_sweep(paper):
    value = noise.shares(paper.run).number("share of tokens over-repaired, all heads").value
    part = paper.run.heads.sel(filter="top 2%")
    assert value == pytest.approx(float((part["share_over_repaired"] * part["count"]).sum() / part["count"].sum()))


def test_an_exhibit_says_which_numbers_it_has():
    exhibit = Exhibit("n", "Figure", "s", "t", "c", pd.DataFrame(), (Number("one", 1.0),))
    assert exhibit.number("one").value == 1.0
    with pytest.raises(KeyError, match="no number 'two'"):
        exhibit.number("two")
