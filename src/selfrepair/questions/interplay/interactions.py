"""What two sets do together beyond the sum.

    INT(A, B)   = m(AB) - m(A) - m(B) + m(nothing)
    INT_f(A, B) = the same with the final norm's scale frozen in every run

Redundancy makes INT negative: together they do more damage than one by one. It is symmetric, so it does not tell who
backs up whom (lines do). A live final norm alone makes interactions: always compare with INT_f; the rest is the norm's.
"""

from __future__ import annotations

from itertools import combinations

import pandas as pd

from selfrepair.errors import SelfRepairError
from selfrepair.questions.interplay.joint_runs import JointRuns
from selfrepair.questions.measuring.prompt_effects import Array
from selfrepair.statistics.estimates import Estimate


def interactions(runs: JointRuns) -> pd.DataFrame:
    """Interactions of all pairs of sets.

    Args:
        runs: of the sets.

    Returns:
        One row per pair: `first`, `second`, and with `_low` and `_high` `interaction`, `norm_frozen` (INT_f) and `norm`
        (their difference), `first_alone`, `second_alone` and `together`, total effects; `given_first`, the second's
        effect where the first is ablated already, and `given_second`.

    Raises:
        SelfRepairError: fewer than two sets.
    """
    if len(runs.names) < 2:
        raise SelfRepairError(
            "An interaction needs two sets.", "Name several, as 'L9H6, L9H9' or 'movers=9.6,9.9 s2=7.3'."
        )
    pairs = list(combinations(range(len(runs.names)), 2))
    single = [frozenset((number,)) for number in range(len(runs.names))]
    runs.ask([*single, *map(frozenset, pairs)], "Ablating sets alone and together")
    return pd.DataFrame([_pair(runs, *pair) for pair in pairs])


def _pair(runs: JointRuns, one: int, other: int) -> dict[str, object]:
    sampling = runs.question.sampling
    rows = [runs.row(frozenset(some)) for some in ((one,), (other,), (one, other))]

    def apart(values: Array) -> tuple[Array, Array, Array]:
        first, second, both = (values[row] for row in rows)
        return first, second, both

    first, second, both = apart(runs.effects.total_effect)
    first_frozen, second_frozen, both_frozen = apart(runs.effects.norm_frozen)
    total, frozen = both - first - second, both_frozen - first_frozen - second_frozen
    values = {
        **{"interaction": total, "norm_frozen": frozen, "norm": total - frozen},
        **{"first_alone": first, "second_alone": second, "together": both},
        **{"given_first": both - first, "given_second": both - second},
    }
    row: dict[str, object] = {"first": runs.names[one], "second": runs.names[other]}
    for name, value in values.items():
        row |= with_ends_of(name, sampling.mean(value))
    return row


def with_ends_of(name: str, estimate: Estimate) -> dict[str, object]:
    """`name`, `name_low`, `name_high`."""
    return {name: float(estimate.value), f"{name}_low": float(estimate.low), f"{name}_high": float(estimate.high)}
