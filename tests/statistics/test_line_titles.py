"""A line's title, formula and place in the paper are its own: estimators name no line and have no texts of theirs."""

from __future__ import annotations

import dataclasses

from selfrepair.effects.lines import LINES
from selfrepair.statistics import estimators
from selfrepair.statistics.estimators import all_estimators


def test_the_mean_and_the_share_of_every_line_are_shown_in_its_words():
    every = all_estimators()
    for line in LINES:
        mean, share = every[line.quantity].shown, every[line.share].shown
        assert (mean.title, mean.formula, mean.paper) == (f"repair by {line.short}", line.formula, line.paper)
        assert (share.title, share.paper) == (f"repaired by {line.short}, share", line.share_in_paper)
        assert share.formula == f"Σ repair by {line.short} / Σ L"
        assert line.formula and line.paper


def test_other_words_of_a_line_are_shown_at_once(monkeypatch):
    other = dataclasses.replace(LINES[0], short="bots", formula="f(x)", paper="page 3", share_in_paper="page 4")
    monkeypatch.setattr(estimators, "LINES", (other, *LINES[1:]))
    means = {one.name: one.shown for one in estimators._ledger()}
    shares = {one.name: one.shown for one in estimators._fractions()}
    assert means[other.quantity].formula == "f(x)" and means[other.quantity].title == "repair by bots"
    assert shares[other.share].paper == "page 4" and shares[other.share].formula == "Σ repair by bots / Σ L"
