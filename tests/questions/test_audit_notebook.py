"""An audit in a notebook: what its frame says and does not do, and the waterfall as a figure."""

from __future__ import annotations

import html
import re
from itertools import pairwise

import numpy as np
import pytest
from audited import HOSTILE, covered, hostile

from browsing import opening_pages
from selfrepair.errors import SelfRepairError
from selfrepair.questions.page.audit_notebook import balance_picture


def inside(text: str) -> str:
    """The document of the frame."""
    found = re.fullmatch(r'<iframe sandbox srcdoc="([^"]*)"[^<>]*></iframe>', text)
    assert found, text[:200]
    return html.unescape(found[1])


def test_a_notebook_shows_the_verdict_and_the_numbers_of_the_audit():
    _, found = covered()
    page = inside(found._repr_html_())
    assert "Verdict: " in page and "covered" in page and "Missing from the circuit: L1H1" in page
    (lost,) = re.findall(r'<data value="([^"]*)" data-name="lost">', page)
    assert float(lost) == float(found.covering.total("lost").value)
    assert "zero ablation at all positions" in page and "ledger residual" in page
    assert "<script" not in page and "<button" not in page and len(page) < 60_000


def test_text_of_the_data_is_no_markup_and_short_as_text():
    _, found = hostile()
    page = inside(found._repr_html_())
    assert not re.search(r"<(script|img)", page) and html.escape(HOSTILE[0]) in page
    assert len(repr(found)) < 500 and repr(found).startswith("CircuitAudit(L0H1, L1H0, L1H2: ")


def test_bars_of_the_waterfall_end_at_the_total_effect():
    _, found = covered()
    (panel,) = balance_picture(found).panels
    *steps, total = panel.marks
    assert steps[0].base == 0 == total.base
    for before, after in pairwise(steps):
        assert after.base == pytest.approx(before.base + float(before.y[0]))
    effect = float(found.covering.total("total_effect").value)
    assert steps[-1].base + float(steps[-1].y[0]) == pytest.approx(effect) == float(total.y[0])
    assert len(panel.categories) == len(panel.marks)


def test_the_figure_draws_bars_where_they_start(tmp_path):
    _, found = covered()
    figure = found.plot_balance(tmp_path / "balance.png")
    (panel,) = balance_picture(found).panels
    drawn = [patch for patch in figure.axes[0].patches if patch.get_width() > 0]
    np.testing.assert_allclose([patch.get_y() for patch in drawn], [marks.base for marks in panel.marks], atol=1e-12)
    assert (tmp_path / "balance.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SelfRepairError, match="Cannot write"):
        found.plot_balance(tmp_path / "absent" / "balance.png")


@pytest.mark.parametrize("case", [covered, hostile])
def test_it_shows_in_a_browser_and_asks_for_nothing(browser, tmp_path, case):
    _, found = case()
    path = tmp_path / "cell.html"
    path.write_text(f"<!doctype html><link rel=icon href='data:,'><body>{found._repr_html_()}", encoding="utf-8")
    with opening_pages(browser) as opening:
        tab = opening(path).tab
        tab.goto(path.as_uri())
        frame = tab.frame_locator("iframe")
        assert frame.locator(".word").inner_text() == found.verdict.word
        assert frame.locator(".waterfall .bar:visible").count() > 2
