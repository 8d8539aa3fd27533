"""Exact Shapley values of sets' total effects."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pandas as pd

from selfrepair.errors import SelfRepairError
from selfrepair.questions.interplay.interactions import with_ends_of
from selfrepair.questions.interplay.joint_runs import JointRuns

MOST_PLAYERS = 10


def shapley(runs: JointRuns) -> pd.DataFrame:
    """What each of up to ten sets adds to the total effect, averaged over all orders of ablating.

    Args:
        runs: of the sets, the players; it takes `2^n` of them.

    Returns:
        One row per set: `component`, and with `_low` and `_high` `value` and `alone`, its effect by itself; values add
        up to the effect of ablating all of them.

    Raises:
        SelfRepairError: no set, or more than ten.
    """
    number = len(runs.names)
    if not 1 <= number <= MOST_PLAYERS:
        raise SelfRepairError(
            f"Shapley values of {number} sets were asked for.", f"Name 1 to {MOST_PLAYERS}: it takes 2^n runs."
        )
    subsets = [frozenset(some) for size in range(number + 1) for some in combinations(range(number), size)]
    runs.ask(subsets, "Ablating every subset")
    worth = {some: runs.total(some) for some in subsets}
    rows = []
    for player, name in enumerate(runs.names):
        value = np.zeros(len(runs.question.prompts))
        for some in subsets:
            if player not in some:
                orders = math.factorial(len(some)) * math.factorial(number - len(some) - 1)
                value += orders / math.factorial(number) * (worth[some | {player}] - worth[some])
        row: dict[str, object] = {"component": name}
        row |= with_ends_of("value", runs.question.sampling.mean(value))
        rows.append(row | with_ends_of("alone", runs.question.sampling.mean(worth[frozenset((player,))])))
    return pd.DataFrame(rows)
