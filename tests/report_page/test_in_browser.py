"""The page in a real browser: from the map to a head and its numbers, by mouse, by address and by keyboard."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hostile import SHOWN, pieces

import selfrepair
from selfrepair.report.page import write_page

TOP = "top 20%"


def places(run):
    """Where a token of each view is: one that was looked at closely."""
    row = run.extras.closeups.to_pylist()[-1]
    head = f"L{row['layer']}H{row['head']}"
    return head, f"{head}/token/{row['window']}.{row['position']}", row


def test_a_click_on_the_map_opens_the_head_with_the_numbers_of_the_results(open_page, run):
    page = open_page()
    tab = page.at("map")
    tab.locator('a[data-head="L1H2"]').click()
    page.drawn("L1H2")
    for name in ("self_repair", "total_effect", "repair_mlps", "repaired_fraction", "slope_through_origin"):
        assert page.number(name) == pytest.approx(float(run.heads[name].sel(filter=TOP, layer=1, head=2)), rel=1e-6)
    low, high = (float(run.heads[f"self_repair_{end}"].sel(filter=TOP, layer=1, head=2)) for end in ("low", "high"))
    shown = tab.locator('.number:has(data[data-name="self_repair"])').inner_text().replace("−", "-")
    assert f"{low:+.3f} to {high:+.3f}" in shown
    assert tab.locator(".plot .main-svg").count() > 4  # plotly's, of four charts


def test_every_view_says_its_operator_and_filter(open_page, run):
    page = open_page()
    head, token, _ = places(run)
    for place in ("card", "map", head, f"text/{head}", token):
        text = page.at(place).locator("#view").inner_text().lower()
        assert "resample" in text and ("20%" in text or place in (token, f"text/{head}"))
        assert "interval" in text or "error" in text


def test_the_card_has_the_headline(open_page, run):
    page = open_page()
    page.at("card")
    whole = float(run.heads["pooled_repaired_fraction"].sel(filter=TOP))
    assert page.number("pooled_repaired_fraction") == pytest.approx(whole, rel=1e-9)
    assert "Only 3 documents" in page.tab.locator("#view").inner_text()


def test_deep_links_open_where_they_say(open_page, run):
    page = open_page()
    head, token, row = places(run)
    tab = page.at(token)
    assert page.number("total_effect") == pytest.approx(row["total_effect"], abs=1e-3)
    most_likely = [float(one.get_attribute("value")) for one in tab.locator(".likely data").all()]
    expected = np.exp([*row["logprobs_before"], *row["logprobs_after"]])
    np.testing.assert_allclose(most_likely, expected, rtol=2e-3)
    assert tab.title().startswith(f"{head}, token")
    assert "no such place" in page.at("L99H1").locator("h1").inner_text()
    assert "no such place" in page.at("nonsense").locator("h1").inner_text()


def test_the_table_sorts_both_ways(open_page, run):
    page = open_page()
    tab = page.at("map")
    column = tab.locator("thead th", has_text="total")
    for order in ("descending", "ascending"):
        column.locator("button").click()
        assert column.get_attribute("aria-sort") == order
        values = [float(one.get_attribute("value")) for one in tab.locator('td data[data-name="total_effect"]').all()]
        assert len(values) == 12
        assert values == sorted(values, reverse=order == "descending")


def test_switching_the_filter_changes_map_and_text(open_page, run):
    page = open_page()
    tab = page.at("map")
    fill = tab.locator('a[data-head="L1H2"] rect')
    before, link = fill.get_attribute("style"), tab.locator('a[data-head="L1H2"]').get_attribute("aria-label")
    tab.locator("#filter").select_option(label="all")
    page.drawn("map?filter=all")
    assert fill.get_attribute("style") != before
    assert tab.locator('a[data-head="L1H2"]').get_attribute("aria-label") != link
    assert "all tokens" in tab.locator("figcaption").inner_text()
    tab.locator('a[data-head="L1H2"]').click()
    page.drawn("L1H2?filter=all")
    wanted = float(run.heads["self_repair"].sel(filter="all", layer=1, head=2))
    assert page.number("self_repair") == pytest.approx(wanted, rel=1e-6)


def test_another_quantity_on_the_map(open_page, run):
    page = open_page()
    tab = page.at("map")
    tab.locator("#quantity").select_option("repair_norm")
    page.drawn("map?quantity=repair_norm")
    values = run.heads["repair_norm"].sel(filter=TOP).values
    first = tab.locator('tbody td data[data-name="repair_norm"]').first
    assert float(first.get_attribute("value")) == pytest.approx(values.max(), rel=1e-6)
    tab.locator("#quantity").select_option("label")
    page.drawn("map?quantity=label")
    assert tab.locator(".legend .swatch").count() == 6


@pytest.mark.parametrize("kind", ["SVG", "PNG"])
def test_pictures_are_saved_with_what_they_show(open_page, kind):
    page = open_page()
    for place, which in (("map", 0), ("L1H2", 1)):
        tab = page.at(place)
        with tab.expect_download() as download:
            tab.locator("figure").nth(which).get_by_role("button", name=kind).click()
        content = Path(download.value.path()).read_bytes()
        assert download.value.suggested_filename.endswith(kind.lower())
        if kind == "PNG":
            assert content.startswith(b"\x89PNG") and len(content) > 5000
        else:
            said = " ".join(re.sub("<[^>]+>", " ", content.decode()).split())
            assert content.startswith(b"<svg") and "Resample ablation" in said and "top 20%" in said


def test_the_keyboard_alone_goes_from_the_map_to_a_token(open_page, run):
    page = open_page()
    tab = page.at("map")
    tab.locator("#quantity").focus()
    for _ in range(12):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.dataset.head"):
            break
    assert tab.evaluate("document.activeElement.dataset.head") == "L0H0"
    for key in ("ArrowRight", "ArrowDown", "ArrowDown"):
        tab.keyboard.press(key)
    assert tab.evaluate("document.activeElement.dataset.head") == "L1H2"
    assert tab.locator("#tip").is_visible() and "L1H2" in tab.locator("#tip").inner_text()
    tab.keyboard.press("Enter")
    page.drawn("L1H2")
    tab.keyboard.press("]")
    page.drawn("L1H3")
    tab.keyboard.press("/")
    tab.keyboard.type("L2H0")
    tab.keyboard.press("Enter")
    page.drawn("L2H0")
    tab = page.at("text/L2H0")
    tab.locator(".coloured").first.focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    tab.wait_for_selector('#view[data-view="token"]')
    assert tab.locator("#view").inner_text().count("L2H0")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_no_view_is_wider_than_the_window(open_page, run, width, scheme):
    page = open_page(width, scheme)
    head, token, _ = places(run)
    for place in ("card", "map", head, f"text/{head}", token, "method"):
        tab = page.at(place)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, place
        dark = tab.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(18, 20, 24)"
        assert dark == (scheme == "dark")


def test_the_theme_button_turns_light_into_dark(open_page):
    page = open_page()
    tab = page.at("card")
    tab.locator("#theme").click()
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"


def test_hostile_tokens_are_shown_as_themselves(open_page, run):
    page = open_page()
    seen = set()
    known = pieces()
    for row in run.windows.to_pylist():
        tab = page.at(f"text/L1H2?passage={row['window']}")
        if tab.locator("#text-passage").input_value() != str(row["window"]):
            continue
        texts = [one.text_content() for one in tab.locator(".passage .token").all()]
        wanted = [list(SHOWN.values())[(token - 3) % len(SHOWN)] for token in row["tokens"]]
        assert texts == wanted
        seen |= set(wanted)
    assert seen == set(SHOWN.values()), "every kind was in some passage"
    assert len(known) > len(SHOWN)
    head, token, _ = places(run)
    for place in (head, token):
        tab = page.at(place)
        assert tab.evaluate("document.querySelectorAll('img, #view script, #view b').length") == 0
        assert tab.evaluate("window.hacked") is None


def test_the_copied_python_gives_the_pages_number(open_page, folders, tmp_path, monkeypatch):
    monkeypatch.setattr(selfrepair, "load_run", cache(selfrepair.load_run))
    page = open_page(path=write_page(folders[:1], tmp_path / "report.html"))
    tab = page.at("L1H2")
    code = tab.locator("figure").nth(1).locator("button.copy").get_attribute("data-python")
    tab.locator("figure").nth(1).locator("button.copy").click()
    assert tab.evaluate("navigator.clipboard.readText()") == code
    found: dict = {}
    exec(code, found)
    assert float(found["value"]) == pytest.approx(page.number("total_effect"), rel=1e-6)
    for place in ("card", "map", "L1H2", "text/L1H2"):
        for button in page.at(place).locator("button.copy").all():
            exec(button.get_attribute("data-python"), {})


def test_runs_side_by_side(open_page, folders, tmp_path):
    page = open_page(path=write_page(folders, tmp_path / "report.html"))
    tab = page.at("comparison")
    text = tab.locator("#view").inner_text()
    assert "paired by document" in text and "resample" in text and "zero" in text
    assert tab.locator("figure").count() == 4  # profile, both maps, their difference
    tab.locator("#run").select_option(index=1)
    page.drawn("comparison?run=2")
    tab = page.at("L1H2?run=2")
    assert "zero ablation" in tab.locator("#view").inner_text().lower()


def test_the_policy_of_the_page_lets_nothing_else_run(open_page):
    page = open_page()
    tab = page.at("card")
    tab.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.hacked = 2";
        document.body.append(script);
        fetch("https://example.com").catch(() => { window.refused = true; });
    }""")
    tab.wait_for_timeout(100)
    assert tab.evaluate("window.hacked") is None and tab.evaluate("window.refused") is True
    assert any("Content Security Policy" in said for said in page.wrong)
    assert all("Content Security Policy" in said or "Fetch API" in said for said in page.wrong), json.dumps(page.wrong)
    page.wrong.clear()
