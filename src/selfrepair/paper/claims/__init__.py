"""The paper's claims beside what a run measured: stated, measured with its interval, and whether it holds here.

Keys are those of the project's list of the paper's claims, with a letter where a claim has several parts; checks of our
own are `X01` and so on.
"""

from __future__ import annotations

from collections.abc import Sequence

from selfrepair.paper.claims.about_iteration import ITERATION
from selfrepair.paper.claims.about_neurons import NEURONS
from selfrepair.paper.claims.about_norm import NORM
from selfrepair.paper.claims.about_repair import REPAIR
from selfrepair.paper.claims.claim import (
    ARITHMETIC,
    FAILS,
    HOLDS,
    MISSING,
    OPEN,
    UNJUDGED,
    Claim,
    Verdict,
    measured,
    verdict_table,
)
from selfrepair.paper.exhibit import Exhibit

CLAIMS: tuple[Claim, ...] = (*REPAIR, *NORM, *NEURONS, *ITERATION)


def judge(exhibits: Sequence[Exhibit], claims: Sequence[Claim] = CLAIMS) -> list[Verdict]:
    """Every claim with its number, where some exhibit has it."""
    return [Verdict(claim, measured(claim, exhibits)) for claim in claims]


__all__ = [
    "ARITHMETIC",
    "CLAIMS",
    "FAILS",
    "HOLDS",
    "MISSING",
    "OPEN",
    "UNJUDGED",
    "Claim",
    "Verdict",
    "judge",
    "verdict_table",
]
