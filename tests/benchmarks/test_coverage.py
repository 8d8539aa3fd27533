"""A few cells of docs/coverage.md, small: intervals hold what they promise, and would not without their corrections."""

import numpy as np
import pytest

from selfrepair.statistics.component_lines import Lines, TextLines
from simulation import truths
from simulation.lines import book_lines
from simulation.measured import Tally, book
from simulation.table import coverage, page


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(truths, "TOKENS", 200_000)
    truths.truths.cache_clear()
    truths._quantiles.cache_clear()
    yield
    truths.truths.cache_clear()
    truths._quantiles.cache_clear()


def lines(corpora=12, documents=10):
    tally = Tally()
    for number in range(corpora):
        book_lines(tally, np.random.default_rng([1, number]), documents, "light", "all are alike")
    return tally


def test_lines_cover_and_would_not_with_a_fixed_threshold_and_all_documents(monkeypatch):
    tally = lines()
    assert 0.93 <= coverage(tally, "lines of components, top 2%").share <= 0.985
    assert coverage(tally, "largest repairer, all are alike").share >= 0.95
    monkeypatch.setattr(TextLines, "at_threshold", lambda self, name: np.full_like(self.moments[f"{name}/sum"], np.nan))
    monkeypatch.setattr(Lines, "effective", property(lambda self: self.documents))
    assert coverage(lines(), "lines of components, top 2%").share < 0.92


def test_ratios_and_means_cover_and_the_page_says_so():
    tally, earlier = Tally(), None
    for number in range(8):
        earlier = book(tally, np.random.default_rng([2, number]), 20, "light", earlier)
    for kind in ("ratios of a head, all tokens", "ratios of a head, top 2%", "other means, top 2%"):
        assert 0.92 <= coverage(tally, kind).share <= 0.99, kind
    assert coverage(tally, "ratios with denominators near zero, all tokens").share >= 0.93
    assert "| ratios of a head, top 2% |" in page({(20, "light"): tally})
