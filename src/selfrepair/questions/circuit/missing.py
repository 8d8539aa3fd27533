"""What a circuit misses: components that cover for it, chosen on half of the groups and tested on the other half.

A component is *selected* if its line repairs at a false discovery rate of 5% over all components outside the circuit
that can respond (one-sided tests over groups or prompts, Benjamini-Hochberg), covers at least 5% of what the circuit
wrote, and freezing it takes more repair away than freezing any control does. It is *confirmed* if the same line repairs
on prompts that had no part in selecting it (one-sided 5%, Bonferroni over the selected). With fewer than 60 prompts,
or two to fifteen groups, there are no halves: selected and tested are then the same prompts, and results say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from selfrepair.prompts.prompts import Prompts
from selfrepair.questions.measuring.prompt_effects import Array
from selfrepair.questions.measuring.sampling import ENOUGH_GROUPS, Sampling
from selfrepair.statistics.discovery import q_values

SPLIT_FROM = 60  # prompts
_ROUNDING = 1e-5  # share of what was lost: lines below it are rounding, and rounding may be the same in all prompts


@dataclass(frozen=True, eq=False)
class Halves:
    """Prompts to select on, and prompts to confirm on; all prompts in both where there are too few.

    Attributes:
        select: int [prompt], which.
        confirm: int [prompt].
        split: whether they are different prompts.
        by: `groups` or `prompts`, what was divided.
    """

    select: np.ndarray
    confirm: np.ndarray
    split: bool
    by: str

    @classmethod
    def of(cls, prompts: Prompts, seed: int) -> Halves:
        """By groups, or by prompts where there is one group; in halves of like numbers of prompts.

        Groups are halved only where each half has enough of them for tests over groups.
        """
        number = len(prompts)
        names, units = np.unique(np.asarray(prompts.groups), return_inverse=True)
        if number < SPLIT_FROM or 1 < len(names) < 2 * ENOUGH_GROUPS:
            everything = np.arange(number)
            return cls(everything, everything, False, "prompts")
        by = "groups"
        if len(names) == 1:
            units, by = np.arange(number), "prompts"
        order = np.random.default_rng(seed).permutation(units.max() + 1)
        first = np.zeros(units.max() + 1, bool)
        sizes, taken = np.bincount(units), 0
        for unit in order:
            if taken + sizes[unit] / 2 <= number / 2:
                first[unit] = True
                taken += sizes[unit]
        chosen = first[units]
        return cls(np.flatnonzero(chosen), np.flatnonzero(~chosen), True, by)

    @property
    def in_words(self) -> str:
        """For the foot of a table."""
        if not self.split:
            needed = f"{SPLIT_FROM} prompts and {2 * ENOUGH_GROUPS} groups"
            return f"selected and tested on the same {len(self.select)} prompts (halves from {needed} on)"
        return f"selected on {len(self.select)} prompts, confirmed on {len(self.confirm)} others, divided by {self.by}"


def selected(lines: Array, lost: Array, sampling: Sampling, sign: int, rate: float, least_share: float) -> np.ndarray:
    """Which components' lines repair, and by enough, bool [component]; NaN p-values (one prompt) select none.

    Args:
        lines: [prompt, component].
        lost: what the circuit wrote, [prompt].
        sampling: of these prompts.
        sign: +1 where writing more repairs.
        rate: false discovery rate.
        least_share: of what was lost.
    """
    q = q_values(sampling.p_value(sign * lines.T))
    share = sampling.mean(sign * lines.T).value / max(float(sampling.mean(sign * lost).value), 1e-12)
    return np.asarray((q <= rate) & (share >= max(least_share, _ROUNDING)))


def confirmed(lines: Array, sampling: Sampling, sign: int, rate: float) -> np.ndarray:
    """Which of the selected components' lines repair here too, bool [selected]."""
    number = max(lines.shape[1], 1)
    return np.asarray(sampling.p_value(sign * lines.T) <= rate / number)


def jaccard(first: Sequence[str], second: Sequence[str]) -> float:
    """Shared members over all members of two lists; 1 for two empty ones."""
    together = set(first) | set(second)
    return len(set(first) & set(second)) / len(together) if together else 1.0


def stability(
    lines: Array,
    lost: Array,
    sampling: Sampling,
    sign: int,
    rules: tuple[float, float],
    components: Sequence[str],
    draws: int = 200,
    seed: int = 0,
) -> tuple[float, pd.Series]:
    """How often the list comes out the same over resampled groups.

    Args:
        lines: [prompt, component].
        lost: [prompt].
        sampling: of the prompts; its units are what is resampled.
        sign: +1 where writing more repairs.
        rules: `rate` and `least_share` as in `selected`.
        components: names.
        draws: resamples.
        seed: of the draws.

    Returns:
        Mean Jaccard index with the list on all prompts, and the share of resamples that have each component.
    """
    units, weights = sampling.units, sampling.weights
    rng, number = np.random.default_rng(seed), int(units.max()) + 1
    whole = selected(lines, lost, sampling, sign, *rules)
    members = [np.flatnonzero(units == unit) for unit in range(number)]
    counts, likeness = np.zeros(len(components)), []
    for _ in range(draws):
        drawn = rng.integers(number, size=number)
        some = np.concatenate([members[unit] for unit in drawn])
        again = np.repeat(np.arange(number), [len(members[unit]) for unit in drawn])
        chosen = selected(lines[some], lost[some], Sampling(again, weights[some], sampling.kind), sign, *rules)
        counts += chosen
        either = int((chosen | whole).sum())
        likeness.append((chosen & whole).sum() / either if either else 1.0)
    return float(np.mean(likeness)), pd.Series(counts / draws, index=list(components))
