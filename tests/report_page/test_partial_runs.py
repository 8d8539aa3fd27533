"""Runs that lack something: heads that were never ablated, no lines of components, no tokenizer, post-norms."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from selfrepair.report.page import write_page

sys.path.insert(0, str(Path(__file__).parents[1] / "results"))
from made_runs import made_run

KINDS = {
    "skipped": {"skip": ((0, 1), (2, 3))},
    "layers": {"components": "layers"},
    "none": {"components": "none"},
    "post-norms": {"post_norms": True, "status": "interrupted"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_view_opens_on_a_run_that_lacks_something(open_page, tmp_path, kind):
    page = open_page(path=write_page([made_run(**KINDS[kind])], tmp_path / "report.html"))
    for place in ("card", "map", "L0H1", "L1H2", "text/L1H2", "method", "comparison"):
        tab = page.at(place)
        assert "NaN" not in tab.locator("#view").inner_text()
    if kind == "skipped":
        assert "not ablated" in page.at("L0H1").locator("#view").inner_text()
        assert page.at("map").locator("rect.empty").count() == 2
    if kind == "post-norms":
        assert "interrupted" in page.at("card").locator(".warning").inner_text()
        assert page.at("L1H2").locator('data[data-name="repair_post_norms"]').count() == 1
