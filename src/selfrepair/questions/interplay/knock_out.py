"""Knock-out curves: the readout as one set after the other is ablated, in several orders."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from selfrepair.ablation.sites import Attention, Head, Site
from selfrepair.errors import SelfRepairError
from selfrepair.questions.interplay.interactions import with_ends_of
from selfrepair.questions.interplay.joint_runs import NOTHING, JointRuns, Subset
from selfrepair.questions.measuring.components import Components
from selfrepair.questions.measuring.metrics import metric_named
from selfrepair.questions.measuring.prompt_effects import Array
from selfrepair.questions.question_settings import KNOCK_OUT_ORDERS

STEPS, DRAWS = 10, 20
_Step = tuple[str, Array, Array, Array]  # what is ablated, readout, total effect, and what was lost, on each prompt


def knock_out_curve(
    runs: JointRuns, order: str = "conditional", steps: int = STEPS, draws: int = DRAWS
) -> pd.DataFrame:
    """The readout as one set after the other is ablated.

    Args:
        runs: of the sets.
        order: `own effect` (what hurts most by itself first), `direct effect` (largest clean ones first), `line`
            (each time the one that then writes most of the answer: its clean direct effect and its line, given those
            gone), `conditional` (each time the one whose loss hurts most, given those gone; the most runs), or `random`
            (mean of `draws` orders).
        steps: how many sets are ablated at most.
        draws: random orders.

    Returns:
        One row per step from 0 on: `step`, `ablated` (the set of this step; empty for random orders), and with `_low`
        and `_high` `readout`, `total_effect`, and `unrepaired`, where the readout would be if nothing had reacted: the
        clean value less what the ablated sets no longer write.

    Raises:
        SelfRepairError: an unknown order, or one by direct effects of sets that have none, such as neurons.
    """
    if order not in KNOCK_OUT_ORDERS:
        raise SelfRepairError(f"There is no order '{order}'.", f"There are: {', '.join(KNOCK_OUT_ORDERS)}.")
    most = min(steps, len(runs.names))
    if order == "random":
        return _table(runs, _random(runs, most, draws))
    choose = _CHOICES[order]
    gone, found = NOTHING, [_step(runs, "", NOTHING)]
    for _ in range(most):
        left = [number for number in range(len(runs.names)) if number not in gone]
        chosen = choose(runs, left, gone)
        gone |= {chosen}
        found.append(_step(runs, runs.names[chosen], gone))
    return _table(runs, found)


def has_direct_effects(runs: JointRuns) -> bool:
    """Whether all sets consist of whole heads, attention layers and MLPs, whose direct effects are booked; none has any
    on a divergence, whose gradient on clean runs is zero."""
    components = runs.question.components
    return metric_named(runs.question.settings.metric).directed and all(
        _columns_of(site, components) is not None for sites in runs.sets for site in sites
    )


def _columns_of(site: Site, components: Components) -> list[int] | None:
    if site.positions is not None:
        return None
    if isinstance(site, Attention):
        return [components.index[Head(site.layer, head)] for head in range(components.heads[site.layer])]
    return [components.index[site]] if site in components.index else None


def _of_sets(runs: JointRuns, values: Array) -> Array:
    """Means over prompts of values [prompt, component], summed over each set's components, [set]."""
    if not has_direct_effects(runs):
        raise SelfRepairError(
            "Direct effects are known of whole heads, attention layers and MLPs alone, and not on a divergence.",
            "Choose the order 'own effect', 'conditional' or 'random' for neurons, directions, positions, and kl.",
        )
    components = runs.question.components
    means = np.asarray(runs.question.sampling.mean(values.T).value)
    columns = [[column for site in sites for column in _columns_of(site, components) or ()] for sites in runs.sets]
    return np.array([means[some].sum() for some in columns])


def _worst(runs: JointRuns, left: Sequence[int], gone: Subset) -> int:
    """The set whose loss hurts most where others are gone."""
    subsets = [gone | {number} for number in left]
    runs.ask(subsets, "Trying each of the rest")
    totals = np.asarray(runs.question.sampling.mean(np.stack([runs.total(some) for some in subsets])).value)
    directed = metric_named(runs.question.settings.metric).directed
    return left[int(np.argmin(totals if directed else -totals))]


def _by_own_effect(runs: JointRuns, left: Sequence[int], _gone: Subset) -> int:
    return _worst(runs, left, NOTHING)


def _by_direct_effect(runs: JointRuns, left: Sequence[int], _gone: Subset) -> int:
    values = _of_sets(runs, runs.question.components.direct_effects(runs.effects))
    return max(left, key=lambda number: float(values[number]))


def _by_line(runs: JointRuns, left: Sequence[int], gone: Subset) -> int:
    row, components = runs.row(gone), runs.question.components
    values = _of_sets(runs, components.direct_effects(runs.effects) + components.lines(runs.effects, row))
    return max(left, key=lambda number: float(values[number]))


_CHOICES: dict[str, Callable[[JointRuns, Sequence[int], Subset], int]] = {
    **{"own effect": _by_own_effect, "direct effect": _by_direct_effect},
    **{"line": _by_line, "conditional": _worst},
}


def _random(runs: JointRuns, most: int, draws: int) -> list[_Step]:
    rng = np.random.default_rng(runs.question.settings.seed)
    orders = [rng.permutation(len(runs.names))[:most].tolist() for _ in range(draws)]
    runs.ask([frozenset(order[:size]) for order in orders for size in range(most + 1)], "Ablating in random orders")
    found = []
    for size in range(most + 1):
        _, *values = zip(*(_step(runs, "", frozenset(order[:size])) for order in orders), strict=True)
        readout, total, lost = (np.mean(np.stack(some), 0) for some in values)
        found.append(("", readout, total, lost))
    return found


def _step(runs: JointRuns, name: str, gone: Subset) -> _Step:
    row = runs.row(gone)
    return name, runs.effects.ablated[row], runs.effects.total_effect[row], runs.effects.lost[row]


def _table(runs: JointRuns, steps: Sequence[_Step]) -> pd.DataFrame:
    sampling, clean = runs.question.sampling, runs.effects.clean
    rows = []
    for number, (name, readout, total, lost) in enumerate(steps):
        row: dict[str, object] = {"step": number, "ablated": name}
        for column, values in {"readout": readout, "total_effect": total, "unrepaired": clean - lost}.items():
            row |= with_ends_of(column, sampling.mean(values))
        rows.append(row)
    return pd.DataFrame(rows)
