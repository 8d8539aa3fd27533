"""The audit page in a real browser: it asks the network for nothing, boxes are pinned, prompts found and walked."""

from __future__ import annotations

import pytest
from audited import HOSTILE, page_of

from browsing import opening_pages


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audits")
    for name in ("covered", "hostile"):
        (folder / f"{name}.html").write_text(page_of(name), encoding="utf-8")
    return folder


@pytest.fixture
def open_page(browser, files):
    with opening_pages(browser) as opening:

        def at(name, place="", **looks):
            tab = opening(files / f"{name}.html", **looks).tab
            tab.goto(f"{(files / f'{name}.html').as_uri()}#{place}")
            tab.wait_for_selector('html[data-ready="yes"]')
            return tab

        yield at


@pytest.mark.parametrize("name", ["covered", "hostile"])
@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (400, "dark")])
def test_it_opens_on_any_screen_and_runs_nothing_of_the_data(open_page, name, width, scheme):
    tab = open_page(name, width=width, scheme=scheme)
    tab.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("window.hacked") is None
    assert tab.locator(".rows .bar:visible").count() > 3
    ground = tab.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (ground == "rgb(18, 20, 24)") == (scheme == "dark")


def test_a_box_is_pinned_by_mouse_and_keys_and_its_edges_followed(open_page):
    tab = open_page("covered")
    member, repairer = (tab.locator(f'#drawing .node[data-node="{name}"]') for name in ("L0H0", "L1H1"))
    member.click()
    assert member.get_attribute("aria-pressed") == "true"
    assert tab.locator("#pin-L0H0").is_visible() and "Edges from L0H0" in tab.locator("#pin-L0H0").inner_text()
    assert tab.locator("#drawing .edge.near").count() == 1
    tab.locator('#pin-L0H0 [data-follow="L1H1"]').first.click()
    assert repairer.get_attribute("aria-pressed") == "true" and tab.locator("#pin-L0H0").is_hidden()
    assert "suppressor re-aimed" in tab.locator("#pin-L1H1").inner_text()
    tab.keyboard.press("Escape")
    assert tab.locator(".pin:visible").count() == 0
    repairer.focus()
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("Enter")
    assert tab.locator("#pin-L0H0").is_visible()


def test_prompts_are_found_sorted_and_walked(open_page):
    tab = open_page("hostile")
    tab.locator("#find").fill("WINDOW.HACKED")
    visible = tab.locator(".prompt:visible")
    assert visible.count() > 0
    tab.locator("#find").fill("no such text anywhere")
    assert visible.count() == 0
    tab.locator("#find").fill("")
    tab.locator("#order").select_option("total")
    sizes = [abs(float(one.get_attribute("data-total"))) for one in visible.all()]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) == 4
    tab.locator("h1").click()
    tab.keyboard.press("]")
    tab.keyboard.press("]")
    assert [one.get_attribute("open") is not None for one in visible.all()] == [False, True, False, False]
    tab.keyboard.press("[")
    assert visible.first.get_attribute("open") is not None


def test_a_prompt_has_an_address_and_shows_attention_before_and_after(open_page):
    tab = open_page("covered", "prompt-2")
    prompt = tab.locator("#prompt-2")
    assert prompt.get_attribute("open") is not None
    before, after = (prompt.locator(".attended-row").nth(place) for place in (0, 1))
    titles = [[one.get_attribute("title") for one in row.locator(".token").all()] for row in (before, after)]
    assert titles == [["0.0%", "100.0%", "0.0%"], ["100.0%", "0.0%", "0.0%"]]  # re-aimed from the source to BOS


def test_what_is_copied_is_what_is_shown(open_page):
    tab = open_page("hostile")
    for name, words in (("as-python", "from selfrepair import"), ("as-claims", "claims:")):
        tab.locator(f'[data-copy="{name}"]').click()
        tab.locator("#said", has_text="Copied.").wait_for()
        copied = tab.evaluate("navigator.clipboard.readText()")
        assert copied == tab.locator(f"#{name}").text_content() and words in copied
        tab.evaluate("document.getElementById('said').textContent = ''")
    assert HOSTILE[0] in tab.locator("#as-python").text_content()


def test_light_turns_dark_by_a_button(open_page):
    tab = open_page("covered")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    before = tab.evaluate(ground)
    tab.locator("#theme").click()
    assert tab.evaluate(ground) != before and tab.locator("#theme").inner_text() == "☀"
