"""Shares on the page and in the terminal: the same numbers, rounded the same way."""

from __future__ import annotations

import pytest

from selfrepair.report.page import write_page
from support import with_heads


def page_with(open_page, run, tmp_path, **numbers):
    """The page of a run with some numbers of all heads set."""
    heads = run.heads.copy(deep=True)
    for name, value in numbers.items():
        heads[name][:] = value
    return open_page(path=write_page([with_heads(run, heads)], tmp_path / "changed.html"))


def test_ends_of_intervals_in_the_table_are_rounded_not_cut_off(open_page, run, tmp_path):
    ends = {"repaired_fraction_low": -0.4069, "repaired_fraction_high": 0.9723}
    page = page_with(open_page, run, tmp_path, repaired_fraction=0.7417, **ends)
    assert "74%\n−41% to 97%" in page.at("map").locator("#view").inner_text()


@pytest.mark.parametrize(
    ("low", "high", "said"), [(-0.0667, 0.0724, "−6.7% to 7.2%"), (0.0003, 0.4, "0.03% to 40.00%")]
)
def test_small_shares_have_no_exponent_and_no_end_is_shown_as_the_zero_it_leaves_out(
    open_page, run, tmp_path, low, high, said
):
    ends = {"pooled_fraction_heads_low": low, "pooled_fraction_heads_high": high}
    page = page_with(open_page, run, tmp_path, pooled_fraction_heads=-0.00023, **ends)
    text = page.at("card").locator("#view").inner_text()
    assert "0.0%" in text and "e-2%" not in text and said in text
