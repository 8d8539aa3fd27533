"""What a claim is, how its number is found, and when it holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.numbers import Number

INF = math.inf
HOLDS, FAILS, OPEN = "holds here", "does not hold here", "undecided here"
MISSING, UNJUDGED = "not measured", "cannot be judged here"
Range = tuple[float, float]
Pick = Callable[[Sequence[Number], Range], Number | None]


def nth(place: int) -> Pick:
    """The number in that place, where there are so many: exhibits show heads in an order that means something."""
    return lambda found, within: found[place] if place < len(found) else None


FIRST = nth(0)


def largest(found: Sequence[Number], within: Range) -> Number:
    """The largest: for claims that some head does something."""
    return max(found, key=lambda number: -INF if math.isnan(number.value) else number.value)


def nearest_one(found: Sequence[Number], within: Range) -> Number:
    """The ratio nearest to 1: for claims that some head shows no difference."""
    return min(found, key=lambda number: abs(math.log(number.value)) if number.value > 0 else INF)


def most_against(found: Sequence[Number], within: Range) -> Number:
    """The one that speaks most against the claim, for claims about every one of them; of those about what the first
    is about, named before a colon where there are several runs."""
    order = (FAILS, OPEN, HOLDS, MISSING)
    subject = found[0].name.rpartition(": ")[0]
    same = [number for number in found if number.name.rpartition(": ")[0] == subject]
    return min(same, key=lambda number: (order.index(decide(number, within)), -abs(number.value)))


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        key: for reference.
        where: in the paper.
        stated: what it says, and of which model.
        exhibits: names of the exhibits that measure it, or their beginnings.
        number: what the number's name contains.
        within: the range in which the claim takes the number to lie.
        reading: how words became that range, or why this run cannot judge it where there are no exhibits.
        pick: which of the numbers of that name, the first by default.
    """

    key: str
    where: str
    stated: str
    exhibits: tuple[str, ...]
    number: str
    within: Range
    reading: str
    pick: Pick = FIRST


def unjudged(key: str, where: str, stated: str, why: str) -> Claim:
    """A claim that this run cannot judge, with the reason."""
    return Claim(key, where, stated, (), "", (math.nan, math.nan), why)


@dataclass(frozen=True)
class Verdict:
    """A claim with what was measured."""

    claim: Claim
    number: Number | None

    @property
    def verdict(self) -> str:
        """Whether the claim holds here: see `decide`; `UNJUDGED` where no exhibit can measure it."""
        return decide(self.number, self.claim.within) if self.claim.exhibits else UNJUDGED


def decide(number: Number | None, within: Range) -> str:
    """`HOLDS` where the whole interval lies in the range, `FAILS` where all of it lies outside, `OPEN` where it lies
    across an edge or there is none; a number that is exact goes by its value. `MISSING` without a number."""
    if number is None or math.isnan(number.value):
        return MISSING
    low, high = (number.value, number.value) if number.exact else (number.low, number.high)
    if within[0] <= low and high <= within[1]:
        return HOLDS
    return FAILS if high < within[0] or low > within[1] else OPEN


def verdict_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Claims as a table."""
    rows = []
    for one in verdicts:
        claim, number = one.claim, one.number
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
                "verdict": one.verdict,
            }
        )
    return pd.DataFrame(rows)


def measured(claim: Claim, exhibits: Sequence[Exhibit]) -> Number | None:
    """The number by which a claim is judged, where some exhibit has it."""
    found = [
        number
        for exhibit in exhibits
        if claim.exhibits and exhibit.name.startswith(claim.exhibits)
        for number in exhibit.numbers
        if claim.number in number.name
    ]
    return claim.pick(found, claim.within) if found else None
