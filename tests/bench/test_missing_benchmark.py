"""The missing list on planted circuits: what is counted, and that the count can fail."""

from __future__ import annotations

import io
from dataclasses import replace

import pandas as pd
import pytest

from selfrepair.bench.bench_tables import print_missing
from selfrepair.bench.planted import missing_list
from selfrepair.bench.planted.missing_list import WAYS, MissingScores, missing_benchmark, null_rates
from selfrepair.terminal import Console


def test_deleted_members_are_named_and_nothing_else():
    found = missing_benchmark(1, null_seeds=0)
    assert list(found.audits["left_out"]) == [5, 5] and list(found.audits["verdict"]) == ["covered"] * 2
    assert (found.summary()[["precision", "recall"]] == 1).all().all()


def test_a_list_that_names_others_loses_precision(monkeypatch):
    answer = missing_list.audit

    def wrong(question, roles):
        found = answer(question, roles)
        table = found.missing.assign(component=["L9H9", *found.missing["component"].iloc[1:]])
        return replace(found, missing=table)

    monkeypatch.setattr(missing_list, "audit", wrong)
    (row,) = missing_benchmark(1, missing_list.AUDITED[:1], null_seeds=0).summary().to_dict("records")
    assert row["precision"] == row["recall"] == pytest.approx(4 / 5)


def test_the_null_rate_holds_with_halves_and_breaks_where_the_largest_are_tested_on_the_same_groups():
    rates = null_rates(100).set_index("way")["rate"]
    assert list(rates.index) == list(WAYS)
    assert rates[WAYS[0]] <= 0.05 and rates[WAYS[2]] > 0.5


def test_what_is_printed_is_what_was_counted():
    audits = pd.DataFrame(
        [("GPT-2, fixed norms", 0, 5, 4, 3, "covered"), ("GPT-2, live final norm", 0, 0, 0, 0, "complete")],
        columns=["variant", "seed", "left_out", "found", "right", "verdict"],
    )
    console = Console(width=120, file=io.StringIO(), record=True)
    print_missing(console, MissingScores(audits, null_rates(20)))
    text = console.export_text()
    assert "0.750" in text and "0.600" in text and "–" in text and WAYS[2] in text and "64 prompts" in text
