"""The paper's claims on made-up exhibits: which number each reads, what it decides, and that none is missing."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from selfrepair.paper.claims import CLAIMS, FAILS, HOLDS, MISSING, OPEN, UNJUDGED, Claim, judge, verdict_table
from selfrepair.paper.claims.claim import largest, most_against, nearest_one, nth
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.numbers import Number

LISTED = Path(__file__).parents[3] / "shared" / "reference" / "claims.csv"  # beside the project, on some machines
NAN = float("nan")


def exhibit(name, *numbers):
    return Exhibit(name, "Figure", "s", "t", "c", pd.DataFrame(), numbers)


def verdict_of(key, *exhibits):
    return next(one for one in judge(exhibits) if one.claim.key == key)


@pytest.mark.skipif(not LISTED.is_file(), reason="the list of claims is not at hand")
def test_every_listed_claim_has_its_row_and_no_other_takes_its_name():
    with LISTED.open(encoding="utf-8") as file:
        listed = {row["id"] for row in csv.DictReader(file)}
    assert {claim.key[:3] for claim in CLAIMS if claim.key.startswith("C")} == listed


def test_keys_are_the_papers_or_plainly_ours():
    keys = [claim.key for claim in CLAIMS]
    assert len(keys) == len(set(keys))
    assert all(re.fullmatch(r"C\d\d[a-c]?|X\d\d", key) for key in keys)
    for claim in CLAIMS:
        assert ("our check" in claim.where) == (claim.key.startswith("X") and claim.key != "X07"), claim.key
        assert claim.reading and claim.stated


@pytest.mark.parametrize(
    ("number", "verdict"),
    [
        (Number("n", 0.3, 0.25, 0.35), HOLDS),
        (Number("n", 0.3, 0.2, 0.4), HOLDS),
        (Number("n", 0.3, 0.15, 0.35), OPEN),
        (Number("n", 0.1, 0.0, 0.19), FAILS),
        (Number("n", 0.6, 0.45, 0.7), FAILS),
        (Number("n", 0.3), OPEN),
        (Number("n", 0.9), OPEN),
        (Number("n", 0.3, exact=True), HOLDS),
        (Number("n", 0.5, exact=True), FAILS),
        (Number("n", NAN), MISSING),
        (None, MISSING),
    ],
)
def test_verdicts_go_by_the_whole_interval(number, verdict):
    claim = Claim("C", "", "", ("figure",), "n", (0.2, 0.4), "")
    (found,) = judge([exhibit("figure-01", *([number] if number else []))], [claim])
    assert found.verdict == verdict and (found.number == number or verdict == MISSING)


def test_what_a_run_cannot_judge_is_said_with_a_reason():
    rows = verdict_table(judge([])).set_index("claim")
    cannot = rows[rows["verdict"] == UNJUDGED]
    assert set(cannot.index) == {"C21", "C22", "C32", "C33", "C35"} and (cannot["read_as"].str.len() > 20).all()
    assert (rows["verdict"].drop(cannot.index) == MISSING).all()


def test_a_number_is_looked_for_in_its_exhibits_alone():
    claim = Claim("C", "", "", ("figure-04", "figure-17"), "x", (0, 1), "")
    other, own = exhibit("figure-05", Number("an x", 0.5, 0.4, 0.6)), exhibit("figure-17-a", Number("x", 2, 1.5, 3))
    (found,) = judge([other, own], [claim])
    assert found.number.value == 2 and found.verdict == FAILS


def test_which_of_several_heads_stands_for_the_papers():
    numbers = [Number("a", 1.1, 0.9, 1.3), Number("b", 3.0, 2.0, 4.0), Number("c", 0.2, 0.1, 0.3)]
    within = (0.5, 2.5)
    assert largest([*numbers, Number("d", NAN)], within).name == "b"
    assert nearest_one(numbers, within).name == "a"
    assert most_against(numbers, within).name == "c"  # outside as a whole
    assert most_against(numbers[:2], within).name == "b"  # across the edge
    assert nth(1)(numbers, within).name == "b" and nth(3)(numbers, within) is None


def test_the_heads_of_figure_3_are_told_apart():
    numbers = []
    for head, (r, fraction) in {
        "L9H1": (-0.5, 0.6),
        "L8H0": (-0.95, 0.4),
        "L7H2": (0.0, 2.0),
        "L9H3": (0.1, 1),
    }.items():
        numbers.append(Number(f"{head}: correlation of DE and TE", r, r - 0.02, r + 0.02, 9))
        numbers.append(Number(f"{head}: repaired fraction", fraction, fraction - 0.1, fraction + 0.1, 9))
    wanted = {"C04a": ("L9H1", HOLDS), "C04b": ("L9H1", HOLDS), "C05a": ("L8H0", HOLDS), "C05b": ("L8H0", FAILS)}
    wanted |= {"C06": ("L7H2", HOLDS), "C07a": ("L9H3", HOLDS), "C07b": ("L9H3", HOLDS)}
    for key, (head, verdict) in wanted.items():
        found = verdict_of(key, exhibit("figure-03-per-token", *numbers))
        assert (found.number.name[:4], found.verdict) == (head, verdict), key
    assert verdict_of("C07a", exhibit("figure-03-per-token", *numbers[:6])).verdict == MISSING


def test_near_zero_in_every_layer_means_in_every_layer():
    near, far = (
        Number(f"sum DE' / sum DE by layer, layer {n}", v, v - 0.01, v + 0.01, 9) for n, v in ((0, 0.02), (1, 0.3))
    )
    unsure = Number("sum DE' / sum DE by layer, layer 2", 0.09, 0.0, 0.18, 9)
    assert verdict_of("C03", exhibit("figure-02-x", near)).verdict == HOLDS
    assert verdict_of("C03", exhibit("figure-02-x", near, unsure)).verdict == OPEN
    assert verdict_of("C03", exhibit("figure-02-x", near, unsure, far)).number == far
    here, beside = replace(near, name=f"gpt2: {near.name}"), replace(far, name=f"another: {far.name}")
    assert verdict_of("C03", exhibit("figure-02-x", here, beside)).number == here


def test_extreme_ratios_are_those_of_the_head_where_they_are_most_so():
    name = "L3H{}: mean |scale ratio - 1|, zero over the larger of resample and mean"
    shown = exhibit("figure-04-x", Number(name.format(0), 1.0, 0.9, 1.1, 9))
    others = exhibit("figure-17-x", Number(name.format(1), 2.0, 1.7, 2.3, 9))
    one, other = (verdict_of(key, shown, others) for key in ("C29", "C30"))
    assert (one.number.value, one.verdict) == (2.0, HOLDS) and (other.number.value, other.verdict) == (1.0, HOLDS)


def test_arithmetic_is_exact_and_goes_by_its_value():
    good, bad = (exhibit("appendix-g-x", Number("the paper's example: ratio 1.02", v, exact=True)) for v in (0.2, 0.21))
    assert verdict_of("C31a", good).verdict == HOLDS and verdict_of("C31a", bad).verdict == FAILS
