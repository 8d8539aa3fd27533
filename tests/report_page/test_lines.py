"""The page draws the lines of the ledger that it is given: it names none of its own."""

import re
from importlib.resources import files

import pytest

from selfrepair.effects.lines import LINES
from selfrepair.report.page import build, write_page
from selfrepair.report.page.ledger_lines import lines

NEW = {
    "quantity": "gross_self_repair",
    "share": "repaired_fraction",
    "short": "a new mechanism",
    "text": "what no ledger has",
    "components": [],
    "stroke": 4,
}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_the_program_of_the_page_names_no_line(line):
    static = files("selfrepair.report.page").joinpath("static")
    for module in (one for one in static.iterdir() if one.name.endswith(".js")):
        program = module.read_text(encoding="utf-8")
        for name in (line.quantity, line.share):
            assert not re.search(rf"\b{name}\b", program), f"{module.name} names {name}"


def test_lines_of_norms_that_a_model_lacks_are_left_out(run):
    given = lines(run)
    assert [one["short"] for one in given] == ["heads", "MLPs", "final norm"]
    assert [one["stroke"] for one in given] == [0, 1, 4]  # colours do not depend on what is left out


def test_a_line_more_is_drawn_everywhere(run, open_page, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "lines", lambda run: [*lines(run), NEW])
    page = open_page(path=write_page([run], tmp_path / "more.html"))
    card = page.at("card").locator("table.split").inner_text()
    assert [name in card for name in ("heads", "MLPs", "final norm", "a new mechanism")] == [True] * 4
    table = page.at("map").locator("th", has_text="a new mechanism")
    assert table.count() == 1
    tab = page.at("L1H2")
    assert tab.locator('data[data-name="gross_self_repair"]').count() == 1
    assert "a new mechanism" in tab.locator("figure", has_text="from what was lost").inner_text()
