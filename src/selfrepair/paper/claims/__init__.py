"""The paper's claims, each with the number that a run measured and whether the claim holds there.

Keys are those of the project's list of the paper's claims, with a letter if a claim has several parts; our own checks
are `X01` and so on.
"""

from __future__ import annotations

from collections.abc import Sequence

from selfrepair.paper.claims.about_iteration import ITERATION
from selfrepair.paper.claims.about_neurons import NEURONS
from selfrepair.paper.claims.about_norm import NORM
from selfrepair.paper.claims.about_repair import REPAIR
from selfrepair.paper.claims.paper_claim import (
    ARITHMETIC,
    FAILS,
    HOLDS,
    MISSING,
    OPEN,
    UNJUDGED,
    JudgedClaim,
    PaperClaim,
    measured,
    verdict_table,
)
from selfrepair.paper.exhibit import Exhibit

CLAIMS: tuple[PaperClaim, ...] = (*REPAIR, *NORM, *NEURONS, *ITERATION)


def judge_claims(exhibits: Sequence[Exhibit], claims: Sequence[PaperClaim] = CLAIMS) -> list[JudgedClaim]:
    """Every claim with its number, if an exhibit has it."""
    return [JudgedClaim(claim, measured(claim, exhibits)) for claim in claims]


__all__ = [
    "ARITHMETIC",
    "CLAIMS",
    "FAILS",
    "HOLDS",
    "MISSING",
    "OPEN",
    "UNJUDGED",
    "JudgedClaim",
    "PaperClaim",
    "judge_claims",
    "verdict_table",
]
