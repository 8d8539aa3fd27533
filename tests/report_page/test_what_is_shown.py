"""What the page shows of its numbers: intervals and no standard errors, shares that mean something, no token twice."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from selfrepair.report.page import write_page
from selfrepair.report.run_tables import print_heads
from support import with_heads

TOP = "top 20%"
HEAD = "L1H2"


@pytest.fixture(scope="module")
def unsure_path(run, tmp_path_factory):
    return write_page([unsure_of(run)], tmp_path_factory.mktemp("unsure") / "report.html")


def unsure_of(run):
    """A run in which shares of half of the heads, of the last layer and of all heads together may be anything.

    The mean's interval of what is lost says the opposite of each: the share's own decides."""
    heads = run.heads.copy(deep=True)
    for ends, some, sure in (((-np.inf, np.inf), slice(2), True), ((0.1, 0.9), slice(2, None), False)):
        heads["repaired_fraction_low"][:, :, some], heads["repaired_fraction_high"][:, :, some] = ends
        heads["lost_direct_effect_low"][:, :, some] = 0.01 if sure else -1.0
        heads["lost_direct_effect_high"][:, :, some] = 1.0
    heads["repaired_fraction"][:] = 5.94
    for kind, some, ends in (("layer", slice(2), (0.1, 0.9)), ("layer", slice(2, None), (-np.inf, np.inf))):
        heads[f"{kind}_repaired_fraction_low"][:, some], heads[f"{kind}_repaired_fraction_high"][:, some] = ends
    heads["layer_lost_direct_effect_low"][:, :2], heads["layer_lost_direct_effect_low"][:, 2:] = -1.0, 0.01
    heads["layer_lost_direct_effect_high"][:] = 1.0
    heads["pooled_repaired_fraction_low"][:], heads["pooled_repaired_fraction_high"][:] = -np.inf, np.inf
    heads["pooled_lost_direct_effect_low"][:] = 0.01
    heads["repair_norm"][:] = 5e-18
    return with_heads(run, heads)


def shown(tab):
    return tab.locator("#view").inner_text()


def cell(run, name, end=""):
    return float(run.heads[name + end].sel(filter=TOP, layer=1, head=2))


def test_whiskers_are_the_95_percent_intervals(open_page, run):
    tab = open_page().at(HEAD)
    bars = tab.evaluate("[...document.querySelectorAll('.plot')].slice(1, 3).map((plot) => plot.data[0])")
    falls, ranking = bars
    for place, name, sign in ((0, "lost_direct_effect", -1), (-1, "total_effect", 1)):
        ends = [sign * cell(run, name, end) for end in ("_low", "_high")]
        value = sign * cell(run, name)
        assert falls["error_y"]["array"][place] == pytest.approx(max(ends) - value, rel=1e-5)
        assert falls["error_y"]["arrayminus"][place] == pytest.approx(value - min(ends), rel=1e-5)
    mlp = ranking["y"].index("MLP 2")
    line = run.heads["repair_by_mlp"].sel(filter=TOP, layer=1, head=2, by_layer=2)
    high = run.heads["repair_by_mlp_high"].sel(filter=TOP, layer=1, head=2, by_layer=2)
    assert ranking["error_x"]["array"][mlp] == pytest.approx(float(high - line), rel=1e-4)
    captions = tab.locator("figcaption").all_inner_texts()
    assert sum("whiskers: 95% intervals" in caption for caption in captions) == 2


def test_no_view_shows_standard_errors_or_marks_of_markup(open_page, run, folders, tmp_path):
    page = open_page(path=write_page(folders, tmp_path / "report.html"))
    for place in ("card", "map", HEAD, f"text/{HEAD}", "comparison", "method"):
        said = shown(page.at(place))
        assert "±" not in said.replace("full at ±", ""), place
        assert "`" not in said and "standard error of zero" not in said, place
    assert "`" not in shown(open_page().at("comparison"))


def test_shares_of_what_may_be_nothing_are_grey_and_colours_end_at_100_percent(open_page, unsure_path):
    tab = open_page(path=unsure_path).at("map?quantity=repaired_fraction")
    for head in range(4):
        rect = tab.locator(f'a[data-head="L1H{head}"] rect')
        assert (rect.get_attribute("class") == "undetermined") == (head < 2)
        assert bool(rect.get_attribute("style")) == (head >= 2)
    assert "undetermined" in tab.locator('a[data-head="L1H0"]').get_attribute("aria-label")
    legend = tab.locator(".legend").inner_text()
    assert "−100.0%" in legend and "undetermined" in legend and "594" not in legend
    assert "not told apart" in tab.locator("figcaption").inner_text()
    assert tab.locator("td", has_text="(594%)").count() == 6 and "unbounded" in shown(tab)
    tab = open_page(path=unsure_path).at("map?quantity=self_repair")
    assert tab.locator("rect.undetermined").count() == 0 and "undetermined" not in tab.locator(".legend").inner_text()


def test_the_page_and_the_terminal_put_the_same_shares_in_brackets(open_page, run, unsure_path):
    console = Console(width=200, file=io.StringIO(), record=True)
    print_heads(console, unsure_of(run), TOP, top=None)
    printed = {line.split()[0]: "(594%)" in line for line in console.export_text().splitlines() if line[:1] == "L"}
    table = open_page(path=unsure_path).at("map?quantity=repaired_fraction").locator("tbody tr")
    on_page = {row.split()[0]: "(594%)" in row for row in table.all_inner_texts()}
    assert printed == on_page == {f"L{layer}H{head}": head < 2 for layer in range(3) for head in range(4)}


def test_layers_whose_share_may_be_anything_are_left_out_of_the_profile(open_page, unsure_path):
    tab = open_page(path=unsure_path).at("card")
    assert "layers whose lost direct effect may be zero" in shown(tab)
    lines = tab.evaluate(
        "[...document.querySelectorAll('.plot')][0].data.filter((one) => one.mode).map((one) => [...one.x])"
    )
    assert lines and all(2 not in line for line in lines) and [0, 1] in lines


def test_unbounded_intervals_are_said(open_page, unsure_path):
    page = open_page(path=unsure_path)
    assert "95% interval unbounded" in shown(page.at("card"))
    assert "unbounded" in page.at("L1H0").locator('.number:has(data[data-name="repaired_fraction"])').inner_text()


def test_rounding_is_not_shown_to_its_last_digit(open_page, unsure_path):
    tab = open_page(path=unsure_path).at(HEAD)
    assert "+0.000" in tab.locator('.number:has(data[data-name="repair_norm"])').inner_text()
    assert "e-18" not in shown(tab)


@pytest.mark.parametrize("filter", ["", "?filter=all"])
def test_no_token_is_in_two_lists(open_page, filter):
    page = open_page()
    for head in ("L0H0", HEAD, "L2H3"):
        tab = page.at(head + filter)
        tokens = [one.get_attribute("href") for one in tab.locator(".kept li a").all()]
        assert tokens and len(set(tokens)) == len(tokens)


@pytest.mark.parametrize("width", [1440, 1100])
def test_tiles_fill_their_rows(open_page, run, width):
    page = open_page(width)
    row = run.extras.closeups.to_pylist()[-1]
    token = f"L{row['layer']}H{row['head']}/token/{row['window']}.{row['position']}"
    for place in (HEAD, token):
        tab = page.at(place)
        for group in tab.locator("dl.numbers").all():
            boxes = [tile.bounding_box() for tile in group.locator(".number").all()]
            assert len({round(box["y"]) for box in boxes}) == 1, "one row"
            right = max(box["x"] + box["width"] for box in boxes)
            assert right == pytest.approx(group.bounding_box()["x"] + group.bounding_box()["width"], abs=1)


def test_every_map_of_a_comparison_has_its_colours_explained(open_page, folders, tmp_path):
    page = open_page(path=write_page(folders, tmp_path / "report.html"))
    for place in ("comparison", "comparison?quantity=repaired_fraction"):
        tab = page.at(place)
        maps = tab.locator("figure:has(.map)")
        assert maps.count() == 3
        for figure in maps.all():
            assert figure.locator(".legend .ramp").count() == 1
    two = tab.locator(".two").bounding_box()
    last = tab.locator(".two > figure").last.bounding_box()
    assert last["width"] == pytest.approx(two["width"], abs=2), "an odd last picture fills its row"


def test_both_slopes_are_drawn_and_explained(open_page, run):
    tab = open_page().at(HEAD)
    names = tab.evaluate("document.querySelector('.plot').data.map((one) => one.name)")
    for name, start in (("slope", "fitted with intercept"), ("slope_through_origin", "through the origin")):
        assert any(str(one).startswith(f"{start}, slope {cell(run, name):.2f}") for one in names), names
    caption = tab.locator("figcaption").first.inner_text()
    assert "with intercept" in caption and "Through the origin" in caption and "ask different things" in caption


def test_labels_on_the_page_are_those_of_the_file(open_page, run, tmp_path):
    heads = run.heads.copy(deep=True)
    heads["label"][:] = np.array(["repaired", "uncertain", "amplified", "redundant"], object)
    page = open_page(path=write_page([with_heads(run, heads)], tmp_path / "report.html"))
    tab = page.at("map")
    marks = {"repaired": "*", "amplified": "†"}
    for layer in range(3):
        for head, label in enumerate(heads["label"].values[0, 0]):
            row = tab.locator(f'tbody tr:has(a[href$="L{layer}H{head}"])').inner_text()
            assert row.startswith(f"L{layer}H{head} {marks[label]}" if label in marks else f"L{layer}H{head}\t")
            assert label in row
    assert "rate of 5%: 3 of 12, amplified: 3" in shown(page.at("card"))
    assert "passes the false-discovery rule" in shown(page.tab)
