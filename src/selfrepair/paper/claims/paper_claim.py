"""A claim of the paper: the number that decides it, and when it holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.numbers.document_halves import ON_FIRST, ON_SECOND
from selfrepair.paper.numbers.over_documents import Number

INF = math.inf
HOLDS, FAILS, OPEN = "holds here", "does not hold here", "undecided here"
ARITHMETIC = "true of any model"
MISSING, UNJUDGED = "not measured", "cannot be judged here"
MANY = (0.25, 1.0)  # share of heads: the paper says "many" and gives no number
Range = tuple[float, float]
Pick = Callable[[Sequence[Number], Range], Number | None]


def nth(index: int) -> Pick:
    """The number at that index, if there are so many: exhibits show heads in a meaningful order."""
    return lambda numbers, within: numbers[index] if index < len(numbers) else None


FIRST = nth(0)


def pick_largest(numbers: Sequence[Number], within: Range) -> Number:
    """The largest number: for claims that some head does something."""
    return max(numbers, key=lambda number: -INF if math.isnan(number.value) else number.value)


def chosen_apart(choose: Pick) -> Pick:
    """The number, on the second half of the documents, of the head that is chosen by it on the first."""

    def pick(numbers: Sequence[Number], within: Range) -> Number | None:
        known = [number for number in numbers if number.name.endswith(ON_FIRST) and not math.isnan(number.value)]
        chosen = choose(known, within) if known else None
        name = "" if chosen is None else chosen.name.removesuffix(ON_FIRST) + ON_SECOND
        return next((number for number in numbers if number.name == name), None)

    return pick


def nearest_one(numbers: Sequence[Number], within: Range) -> Number:
    """The ratio nearest to 1: for claims that some head shows no difference."""
    return min(numbers, key=lambda number: abs(math.log(number.value)) if number.value > 0 else INF)


@dataclass(frozen=True)
class PaperClaim:
    """One claim.

    Attributes:
        key: short name to refer to it by.
        where: figure or section of the paper.
        stated: the claim, and the model it is about.
        exhibits: names of the exhibits that measure it, or their beginnings.
        number: what the number's name contains.
        within: the range in which the claim takes the number to lie.
        reading: how the words became that range, or, without exhibits, why this run cannot judge it.
        pick: chooses one of the numbers of that name; by default the first.
    """

    key: str
    where: str
    stated: str
    exhibits: tuple[str, ...]
    number: str
    within: Range
    reading: str
    pick: Pick = FIRST


def unjudged(key: str, where: str, stated: str, why: str) -> PaperClaim:
    """A claim that this run cannot judge, with the reason."""
    return PaperClaim(key, where, stated, (), "", (math.nan, math.nan), why)


@dataclass(frozen=True)
class JudgedClaim:
    """A claim with what was measured."""

    claim: PaperClaim
    number: Number | None

    @property
    def verdict(self) -> str:
        """Whether the claim holds here: see `decide`; `UNJUDGED` if no exhibit can measure it."""
        return decide(self.number, self.claim.within) if self.claim.exhibits else UNJUDGED


def decide(number: Number | None, within: Range) -> str:
    """`HOLDS` if the whole interval lies in the range, `FAILS` if all of it lies outside, `OPEN` if it crosses an edge
    or there is none. An identity or arithmetic is judged by its value: it is no finding about a model, and is
    `ARITHMETIC` if it is right. `MISSING` without a number."""
    if number is None or math.isnan(number.value):
        return MISSING
    if number.exact:
        return ARITHMETIC if within[0] <= number.value <= within[1] else FAILS
    low, high = number.low, number.high
    if within[0] <= low and high <= within[1]:
        return HOLDS
    return FAILS if high < within[0] or low > within[1] else OPEN


def verdict_table(verdicts: Sequence[JudgedClaim]) -> pd.DataFrame:
    """Claims as a table."""
    rows = []
    for judged in verdicts:
        claim, number = judged.claim, judged.number
        rows.append(
            {
                "claim": claim.key,
                "where": claim.where,
                "stated": claim.stated,
                "read_as": claim.reading,
                "number": number.name if number else "",
                "value": number.value if number else math.nan,
                "low": number.low if number else math.nan,
                "high": number.high if number else math.nan,
                "exact": number.exact if number else False,
                "documents": number.documents if number else 0,
                "verdict": judged.verdict,
            }
        )
    return pd.DataFrame(rows)


def measured(claim: PaperClaim, exhibits: Sequence[Exhibit]) -> Number | None:
    """The number by which a claim is judged, if an exhibit has it."""
    candidates = [
        number
        for exhibit in exhibits
        if claim.exhibits and exhibit.name.startswith(claim.exhibits)
        for number in exhibit.numbers
        if claim.number in number.name
    ]
    return claim.pick(candidates, claim.within) if candidates else None
