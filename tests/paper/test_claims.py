"""The paper's claims on made-up exhibits: which number each reads, what it decides, and that none is missing."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from selfrepair.paper.claims import (
    ARITHMETIC,
    CLAIMS,
    FAILS,
    HOLDS,
    MISSING,
    OPEN,
    UNJUDGED,
    PaperClaim,
    judge_claims,
    verdict_table,
)
from selfrepair.paper.claims.paper_claim import chosen_apart, nearest_one, nth, pick_largest
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments.overview import SHOWN
from selfrepair.paper.numbers.document_halves import ON_FIRST, ON_SECOND
from selfrepair.paper.numbers.over_documents import Number

LISTED = Path(__file__).parents[3] / "shared" / "reference" / "claims.csv"  # beside the project, on some machines
NAN = float("nan")


def exhibit(name, *numbers):
    return Exhibit(name, "Figure", "s", "t", "c", pd.DataFrame(), numbers)


def verdict_of(key, *exhibits):
    return next(judged for judged in judge_claims(exhibits) if judged.claim.key == key)


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
        (Number("n", 0.3, exact=True), ARITHMETIC),
        (Number("n", 0.5, exact=True), FAILS),
        (Number("n", NAN), MISSING),
        (None, MISSING),
    ],
)
def test_verdicts_go_by_the_whole_interval(number, verdict):
    claim = PaperClaim("C", "", "", ("figure",), "n", (0.2, 0.4), "")
    (judged,) = judge_claims([exhibit("figure-01", *([number] if number else []))], [claim])
    assert judged.verdict == verdict and (judged.number == number or verdict == MISSING)


def test_what_a_run_cannot_judge_is_said_with_a_reason():
    rows = verdict_table(judge_claims([])).set_index("claim")
    cannot = rows[rows["verdict"] == UNJUDGED]
    assert set(cannot.index) == {"C21", "C22", "C32", "C33", "C35"} and (cannot["read_as"].str.len() > 20).all()
    assert (rows["verdict"].drop(cannot.index) == MISSING).all()


def test_a_number_is_looked_for_in_its_exhibits_alone():
    claim = PaperClaim("C", "", "", ("figure-04", "figure-17"), "x", (0, 1), "")
    other, own = exhibit("figure-05", Number("an x", 0.5, 0.4, 0.6)), exhibit("figure-17-a", Number("x", 2, 1.5, 3))
    (judged,) = judge_claims([other, own], [claim])
    assert judged.number.value == 2 and judged.verdict == FAILS


def test_which_of_several_heads_stands_for_the_papers():
    numbers = [Number("a", 1.1, 0.9, 1.3), Number("b", 3.0, 2.0, 4.0), Number("c", 0.2, 0.1, 0.3)]
    within = (0.5, 2.5)
    assert pick_largest([*numbers, Number("d", NAN)], within).name == "b"
    assert nearest_one(numbers, within).name == "a"
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
        judged = verdict_of(key, exhibit("figure-03-per-token", *numbers))
        assert (judged.number.name[:4], judged.verdict) == (head, verdict), key
    assert verdict_of("C07a", exhibit("figure-03-per-token", *numbers[:6])).verdict == MISSING


def test_near_zero_is_about_most_heads_and_not_about_the_worst_layer():
    most = Number("share of heads with a direct effect whose DE' is within a tenth of it", 0.8, 0.6, 0.9, 9)
    worst = Number("sum DE' / sum DE by layer, layer 5", 0.5, 0.4, 0.6, 9)
    assert verdict_of("C03", exhibit("figure-02-x", worst, most)).verdict == HOLDS
    assert verdict_of("C03", exhibit("figure-02-x", replace(most, value=0.3, low=0.1, high=0.4))).verdict == FAILS


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.3, 0.95, HOLDS), (0.05, 0.95, OPEN), (0.0, 0.2, FAILS), (0.3, 0.4, HOLDS)]
)
def test_many_heads_are_a_quarter_that_is_shown_and_not_half_by_chance(low, high, verdict):
    name = f"{SHOWN}, SR > 0, last quarter of layers"
    by_chance = Number("share of heads with SR > 0, last quarter of layers", 0.55, 0.51, 0.6, 9)
    judged = verdict_of("C02", exhibit("figure-01-x", by_chance, Number(name, 0.35, low, high, 9)))
    assert judged.verdict == verdict


def test_extreme_ratios_are_those_of_the_head_where_they_are_most_so_on_other_documents():
    name = "L3H{}: mean |scale ratio - 1|, zero over the larger of resample and mean"

    def halves(head, first, second):
        return [
            Number(name.format(head) + end, v, 0.9 * v, 1.1 * v, 9)
            for end, v in (("", (first + second) / 2), (ON_FIRST, first), (ON_SECOND, second))
        ]

    shown = exhibit("figure-04-x", *halves(0, 1.02, 0.95))
    others = exhibit("figure-17-x", *halves(1, 3.0, 1.6), *halves(2, 0.7, 9.0), *halves(3, NAN, NAN))
    largest, other = (verdict_of(key, shown, others) for key in ("C29", "C30"))
    assert largest.number.name == name.format(1) + ON_SECOND and (largest.number.value, largest.verdict) == (1.6, HOLDS)
    assert other.number.name == name.format(0) + ON_SECOND and (other.number.value, other.verdict) == (0.95, HOLDS)
    assert chosen_apart(pick_largest)([], (0, 1)) is None


def test_heads_chosen_by_a_noisy_number_are_not_judged_by_the_same_noise():
    """Of a hundred heads without an effect, the most extreme is extreme by chance: on other documents it is not."""
    rng = np.random.default_rng(0)
    numbers = [
        Number(f"L0H{head}: n{end}", value)
        for head in range(100)
        for end, value in zip((ON_FIRST, ON_SECOND), rng.normal(size=2), strict=True)
    ]
    apart = chosen_apart(pick_largest)(numbers, (0, 1))
    assert max(number.value for number in numbers if number.name.endswith(ON_FIRST)) > 1.5 > abs(apart.value)


def test_arithmetic_goes_by_its_value_and_is_no_claim_that_holds():
    good, bad = (exhibit("appendix-g-x", Number("the paper's example: ratio 1.02", v, exact=True)) for v in (0.2, 0.21))
    assert verdict_of("C31a", good).verdict == ARITHMETIC and verdict_of("C31a", bad).verdict == FAILS


def test_the_norms_share_is_of_all_layers_and_not_of_a_layer_where_it_is_all_there_is():
    last = Number("norm / self-repair, last quarter of layers", 1.0, 1.0, 1.0, 9)
    whole = Number("norm / self-repair, all layers", 0.3, 0.25, 0.35, 9)
    assert verdict_of("C14", exhibit("figure-06-x", last, whole)).verdict == HOLDS


def test_what_may_be_so_potentially_need_not_be_so_in_30_percent_of_cases():
    name = "share of tokens whose norm repair is at least DE"
    verdicts = {value: verdict_of("C15", exhibit("figure-11-x", Number(name, value, value, value, 9))).verdict
                for value in (0.001, 0.1, 0.3, 0.5)}  # fmt: skip
    assert verdicts == {0.001: FAILS, 0.1: HOLDS, 0.3: HOLDS, 0.5: FAILS}
