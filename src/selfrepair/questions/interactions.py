"""What ablating sets together does beyond the sum: interactions, Shapley values, knock-out curves.

    INT(A, B)   = m(AB) - m(A) - m(B) + m(nothing)
    INT_f(A, B) = the same with the final norm's scale frozen in every run

Redundancy makes INT negative: together they do more damage than one by one. It is symmetric, so it does not tell who
backs up whom (lines do). A live final norm alone makes interactions: always compare with INT_f; the rest is the norm's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.sites import Site
from selfrepair.errors import SelfRepairError
from selfrepair.questions.measuring.prompt_effects import Array, PromptEffects
from selfrepair.questions.question import Question
from selfrepair.statistics.estimates import Estimate

MOST_PLAYERS = 10
ORDERS = ("conditional", "direct effect", "line", "random")
_NOTHING = "nothing"


def interactions(question: Question, sets: Mapping[str, Sequence[Site]]) -> pd.DataFrame:
    """Interactions of all pairs of sets.

    Args:
        question: model, prompts and settings.
        sets: what is ablated together, by name.

    Returns:
        One row per pair: `first`, `second`, and with `_low` and `_high` `interaction`, `norm_frozen` (INT_f) and `norm`
        (their difference); `first_alone`, `second_alone` and `together`, total effects; `given_first`, the second's
        effect where the first is ablated already, and `given_second`.

    Raises:
        SelfRepairError: fewer than two sets, or sets that share a site.
    """
    if len(sets) < 2:
        raise SelfRepairError(
            "An interaction needs two sets.", "Name several, as 'L9H6, L9H9' or 'movers=9.6,9.9 s2=7.3'."
        )
    pairs = list(combinations(sets, 2))
    shared = next((pair for pair in pairs if set(sets[pair[0]]) & set(sets[pair[1]])), None)
    if shared is not None:
        raise SelfRepairError(f"{shared[0]} and {shared[1]} share a site.", "Give sets without a common site.")
    runs = [Intervention(tuple(sites), name=name) for name, sites in sets.items()]
    runs += [Intervention((*sets[one], *sets[other]), name=_both(one, other)) for one, other in pairs]
    effects = question.measure(runs, "Ablating sets alone and together")
    return pd.DataFrame([_pair(question, effects, one, other) for one, other in pairs])


def _pair(question: Question, effects: PromptEffects, one: str, other: str) -> dict[str, object]:
    sampling = question.sampling

    def interaction(name: str) -> Array:
        values: Array = getattr(effects, name)
        both, first, second = (values[effects.row(run)] for run in (_both(one, other), one, other))
        found: Array = both - first - second
        return found

    total, frozen = interaction("total_effect"), interaction("norm_frozen")
    first, second, both = (effects.total_effect[effects.row(run)] for run in (one, other, _both(one, other)))
    row: dict[str, object] = {"first": one, "second": other}
    row |= _columns("interaction", sampling.mean(total)) | _columns("norm_frozen", sampling.mean(frozen))
    row |= _columns("norm", sampling.mean(total - frozen))
    row |= {"first_alone": float(sampling.mean(first).value), "second_alone": float(sampling.mean(second).value)}
    row |= {"together": float(sampling.mean(both).value)}
    row |= {"given_first": float(sampling.mean(both - first).value)}
    return row | {"given_second": float(sampling.mean(both - second).value)}


def shapley(question: Question, sites: Sequence[Site]) -> pd.DataFrame:
    """Exact Shapley values of up to ten sites' total effects: what each adds, averaged over all orders of ablating.

    Args:
        question: model, prompts and settings.
        sites: the players.

    Returns:
        One row per site: `component`, `value`, `low`, `high`; values add up to the effect of ablating all of them.

    Raises:
        SelfRepairError: no site, or more than ten.
    """
    players = list(dict.fromkeys(sites))
    if not 1 <= len(players) <= MOST_PLAYERS:
        raise SelfRepairError(
            f"Shapley values of {len(players)} sites were asked for.", f"Name 1 to {MOST_PLAYERS}: it takes 2^n runs."
        )
    subsets = [frozenset(some) for size in range(len(players) + 1) for some in combinations(range(len(players)), size)]
    runs = [Intervention(tuple(players[place] for place in sorted(some)), name=_named(some)) for some in subsets]
    effects = question.measure(runs, "Ablating every subset")
    worth = {some: effects.total_effect[effects.row(_named(some))] for some in subsets}
    rows = []
    for place, site in enumerate(players):
        value = np.zeros(len(question.prompts))
        for some in subsets:
            if place not in some:
                orders = math.factorial(len(some)) * math.factorial(len(players) - len(some) - 1)
                value += orders / math.factorial(len(players)) * (worth[some | {place}] - worth[some])
        mean = question.sampling.mean(value)
        rows.append(
            {"component": str(site), "value": float(mean.value), "low": float(mean.low), "high": float(mean.high)}
        )
    return pd.DataFrame(rows)


def knock_out_curve(
    question: Question, sites: Sequence[Site], order: str = "conditional", steps: int = 10, draws: int = 20
) -> pd.DataFrame:
    """The readout as one site after the other is ablated.

    Args:
        question: model, prompts and settings.
        sites: candidates.
        order: `conditional` (greedily the one whose loss hurts most given those gone; the dearest), `direct effect`
            (largest clean ones first), `line` (greedily the largest line that repairs, after the largest direct
            effect), or `random` (mean of `draws` orders).
        steps: how many sites are ablated at most.
        draws: random orders.

    Returns:
        One row per step from 0 on: `step`, `ablated` (the site of this step; empty for random orders), `readout`,
        `low`, `high`.

    Raises:
        SelfRepairError: an unknown order.
    """
    if order not in ORDERS:
        raise SelfRepairError(f"There is no order '{order}'.", f"There are: {', '.join(ORDERS)}.")
    candidates, most = list(dict.fromkeys(sites)), min(steps, len(set(sites)))
    if order == "random":
        return _random_curve(question, candidates, most, draws)
    clean = question.measure([Intervention((), name=_NOTHING)], "Clean run")
    gone: list[Site] = []
    rows = [_step(question, "", clean.clean)]
    choose = _CHOICES[order]
    for _ in range(most):
        left = [site for site in candidates if site not in gone]
        gone.append(choose(question, clean, left, gone))
        effects = question.measure([Intervention(tuple(gone), name="gone")], f"Ablating {len(gone)} of {most}")
        rows.append(_step(question, str(gone[-1]), effects.ablated[0]))
    return _numbered(rows)


def _by_direct_effect(question: Question, clean: PromptEffects, left: list[Site], _gone: list[Site]) -> Site:
    components = question.components
    means = question.sampling.mean(components.direct_effects(clean).T).value
    return max(left, key=lambda site: float(means[components.index[site]]))


def _by_line(question: Question, clean: PromptEffects, left: list[Site], gone: list[Site]) -> Site:
    if not gone:
        return _by_direct_effect(question, clean, left, gone)
    effects = question.measure([Intervention(tuple(gone), name="gone")], "Lines of what is left")
    components = question.components
    after = components.direct_effects(effects) + components.lines(effects, 0)
    means = question.sampling.mean(after.T).value
    return max(left, key=lambda site: float(means[components.index[site]]))


def _by_condition(question: Question, _clean: PromptEffects, left: list[Site], gone: list[Site]) -> Site:
    runs = [Intervention((*gone, site), name=str(site)) for site in left]
    effects = question.measure(runs, "Trying each of the rest")
    totals = question.sampling.mean(effects.total_effect).value
    return left[int(np.argmin(totals))]


_Choose = Callable[[Question, PromptEffects, list[Site], list[Site]], Site]
_CHOICES: dict[str, _Choose] = {"conditional": _by_condition, "direct effect": _by_direct_effect, "line": _by_line}


def _random_curve(question: Question, candidates: list[Site], most: int, draws: int) -> pd.DataFrame:
    rng = np.random.default_rng(question.settings.seed)
    orders = [[candidates[place] for place in rng.permutation(len(candidates))[:most]] for _ in range(draws)]
    runs = [
        Intervention(tuple(order[:size]), name=f"{draw}, {size}")
        for draw, order in enumerate(orders)
        for size in range(most + 1)
    ]
    effects = question.measure(runs, "Ablating in random orders")
    steps = [
        np.mean([effects.ablated[effects.row(f"{draw}, {size}")] for draw in range(draws)], 0)
        for size in range(most + 1)
    ]
    return _numbered([_step(question, "", values) for values in steps])


def _step(question: Question, site: str, values: Array) -> dict[str, object]:
    return {"ablated": site} | _columns("readout", question.sampling.mean(values), plain=True)


def _numbered(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    table.insert(0, "step", range(len(table)))
    return table


def _columns(name: str, estimate: Estimate, plain: bool = False) -> dict[str, object]:
    prefix = "" if plain else f"{name}_"
    return {name: float(estimate.value), f"{prefix}low": float(estimate.low), f"{prefix}high": float(estimate.high)}


def _both(one: str, other: str) -> str:
    return f"{one} and {other}"


def _named(some: frozenset[int]) -> str:
    return " ".join(map(str, sorted(some))) or _NOTHING
