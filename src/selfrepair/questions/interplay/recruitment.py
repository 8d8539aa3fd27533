"""Is a backup recruited by nature? Where a component happens to write less on an intact run, do later ones write more?

    NR(A, B) = -cov(DE_A, DE_B) / var(DE_A)    within groups of prompts, on clean runs

Deviations from the group's mean, so that differences between templates, which move all components alike, do not count.
NR is 0 for a backup that only ablations wake, and the share that B makes up for if B follows what A writes. Prompts of
a group that are harder than others lower both, which biases NR down.

What differs between prompts and does not reach B (noise in `DE_A`) dilutes NR. Prompts of one group with the same
answers are repeated measurements; where there are enough, the correction takes covariances between two halves of each
such item, whose noise is independent:

    NR = -[cov(A1, B2) + cov(A2, B1)] / [2 cov(A1, A2)]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.sites import Site
from selfrepair.errors import SelfRepairError
from selfrepair.prompts.prompts import Prompts
from selfrepair.questions.interplay.interactions import with_ends_of
from selfrepair.questions.measuring.components import Components
from selfrepair.questions.measuring.metrics import metric_named
from selfrepair.questions.measuring.prompt_effects import Array, PromptEffects
from selfrepair.questions.measuring.sampling import Sampling
from selfrepair.questions.question import Question
from selfrepair.statistics.discovery import q_values
from selfrepair.statistics.estimates import Estimate

LEAST, ENOUGH = 3, 6  # prompts of a group: fewer are left out; fewer on average are flagged
ENOUGH_ITEMS = 8  # with two prompts or more, for the correction
_STILL = 1e-9  # of a direct effect: within groups it varies by rounding alone


@dataclass(frozen=True, eq=False)
class Recruitment:
    """What the intact model shows of covering for some sites.

    Attributes:
        table: one row per later component: `component`; with `_low` and `_high` `natural` (NR), `corrected` (NR without
            its dilution by noise) and `ablated` (its line over what the sites no longer write, when they are ablated);
            `q` of `natural > 0`; sorted by `ablated`.
        spread: standard deviation of the sites' direct effect within groups, in logits.
        prompts: how many were used; those of groups with fewer than three were not.
        groups: of how many groups.
        items: sets of prompts with the same group and answers that the correction splits; 0 without one.
        notes: what limits these numbers.
        sampling: what intervals are over.
        effects: the sites ablated.
    """

    table: pd.DataFrame
    spread: float
    prompts: int
    groups: int
    items: int
    notes: tuple[str, ...]
    sampling: Sampling
    effects: PromptEffects


def recruitment(question: Question, sites: Sequence[Site], by: Iterable[Site] = ()) -> Recruitment:
    """Natural recruitment of later components by some sites.

    Args:
        question: model, prompts and settings.
        sites: A, whole heads and MLPs; their direct effects are added.
        by: B, the components asked about; all later ones by default.

    Raises:
        SelfRepairError: sites without a booked direct effect, no group with three prompts or more, components that do
            not come behind the sites, or direct effects that do not vary within groups.
    """
    components, base = question.components, Intervention(tuple(dict.fromkeys(sites)))
    absent = next((site for site in sites if site not in components.index), None)
    if absent is not None or not sites:
        raise SelfRepairError(
            f"{absent if sites else 'Nothing'} has no direct effect of its own on clean runs.",
            "Name whole heads and MLPs, as L9H6 or L9.mlp.",
        )
    if not metric_named(question.settings.metric).directed:
        raise SelfRepairError(
            f"Nothing has a direct effect on {question.settings.metric} on clean runs, so nothing can follow it.",
            "Choose the metric logit-diff, log-prob or prob-diff.",
        )
    later = _later(components, base, tuple(by))
    groups = np.unique(np.asarray(question.prompts.groups), return_inverse=True)[1]
    used = np.flatnonzero(np.bincount(groups)[groups] >= LEAST)
    if not len(used):
        raise SelfRepairError(
            f"No group has {LEAST} prompts or more; natural recruitment is about differences within groups.",
            "Give several prompts of each group (template), and name the groups: `group` or --groups.",
        )
    effects = question.measure([base], "Ablating")
    sampling, deviations = Sampling.of(question.prompts.select(used)), _Within(question.prompts.select(used))
    direct = components.direct_effects(effects)[used]
    primary = direct[:, [components.index[site] for site in base.replaced]].sum(1)
    spread = float(np.sqrt(np.average(deviations.of(primary) ** 2, weights=sampling.weights)))
    if spread <= _STILL * max(1.0, float(np.abs(primary).max())):
        raise SelfRepairError(
            f"The direct effect of {base.name} does not vary within groups, so nothing can follow it.",
            "Give prompts of one template with several fillers.",
        )
    columns = [components.index[site] for site in later]
    measured = _Measured(primary, direct[:, columns].T, components.lines(effects, 0)[used][:, columns].T)
    table, items = _table(later, measured, effects.lost[0][used], sampling, deviations)
    number = len(set(groups[used].tolist()))
    notes = _notes(len(question.prompts) - len(used), len(used) / number, items)
    return Recruitment(table, spread, len(used), number, items, notes, sampling, effects)


@dataclass(frozen=True)
class _Measured:
    """Of the sites [prompt], and of later components [component, prompt]: direct effects and lines."""

    primary: Array
    later: Array
    lines: Array


class _Within:
    """Deviations from means over the prompts of a group, and halves of items.

    Attributes:
        items: int [prompt], prompts with the same group and answers.
        half: 0 or 1 [prompt], by turns within an item.
        repeated: items with two prompts or more.
    """

    def __init__(self, prompts: Prompts) -> None:
        self.weights = np.asarray(prompts.weights, np.float64)
        self._groups = np.unique(np.asarray(prompts.groups), return_inverse=True)[1]
        keys = list(zip(prompts.groups, prompts.answers, prompts.wrong, strict=True))
        places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
        self.items = np.array([places[key] for key in keys])
        self.half = np.array([int((self.items[:place] == item).sum()) % 2 for place, item in enumerate(self.items)])
        self.repeated = np.flatnonzero(np.bincount(self.items) >= 2)

    def of(self, values: Array) -> Array:
        """Values [..., prompt] less their group's mean."""
        return values - self._means(values, self._groups)[..., self._groups]

    def halves(self, values: Array) -> tuple[Array, Array]:
        """Means over each half of each repeated item [..., item], less the group's mean over its items."""
        both = []
        for half in (0, 1):
            some = self.half == half
            weights = np.where(some, self.weights, 0.0)
            means = self._means(values, self.items, weights)[..., self.repeated]
            groups = self.groups_of_items
            centres = np.stack([means[..., groups == group].mean(-1) for group in range(groups.max() + 1)], -1)
            both.append(means - centres[..., groups])
        return both[0], both[1]

    @property
    def groups_of_items(self) -> np.ndarray:
        """The group of each repeated item, counted from 0, [item]."""
        first = [int(np.flatnonzero(self.items == item)[0]) for item in self.repeated]
        return np.unique(self._groups[first], return_inverse=True)[1]

    def _means(self, values: Array, units: np.ndarray, weights: Array | None = None) -> Array:
        weights = self.weights if weights is None else weights
        members = np.eye(units.max() + 1)[:, units] * weights
        with np.errstate(invalid="ignore"):
            return np.asarray(values @ members.T / members.sum(1))


def _later(components: Components, base: Intervention, by: tuple[Site, ...]) -> tuple[Site, ...]:
    there = components.downstream(base)
    wrong = next((site for site in by if site not in there), None)
    if wrong is not None:
        raise SelfRepairError(
            f"{wrong} does not come behind {base.name}, so it cannot follow it.",
            "Name whole heads and MLPs of later layers.",
        )
    if not there:
        raise SelfRepairError(f"Nothing comes behind {base.name}.", "Name components of earlier layers.")
    return tuple(dict.fromkeys(by)) or there


def _table(
    later: Sequence[Site], measured: _Measured, lost: Array, sampling: Sampling, within: _Within
) -> tuple[pd.DataFrame, int]:
    """One row per component, and how many items the correction splits."""
    varies, follows = within.of(measured.primary), -within.of(measured.later)
    natural = sampling.ratio(follows * varies, varies**2)
    q = q_values(sampling.p_value(follows * varies))
    repeated = len(within.repeated) if _splits(within) else 0
    corrected = _corrected(measured, within, sampling) if repeated else None
    ablated = sampling.ratio(measured.lines, lost)
    rows = []
    for place, site in enumerate(later):
        row: dict[str, object] = {"component": str(site)}
        row |= with_ends_of("natural", _entry(natural, place)) | {"q": float(q[place])}
        row |= with_ends_of("corrected", _entry(corrected, place)) | with_ends_of("ablated", _entry(ablated, place))
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.sort_values("ablated", ascending=False, ignore_index=True, kind="stable"), repeated


def _splits(within: _Within) -> bool:
    """Whether there are items enough, in groups of two items or more."""
    counts = np.bincount(within.groups_of_items) if len(within.repeated) else np.zeros(1)
    return len(within.repeated) >= ENOUGH_ITEMS and bool((counts >= 2).all())


def _corrected(measured: _Measured, within: _Within, sampling: Sampling) -> Estimate:
    first, second = within.halves(measured.primary)
    later_first, later_second = within.halves(measured.later)
    groups = within.groups_of_items
    units = groups if sampling.kind in ("groups", "range") else np.arange(len(groups))
    over_items = Sampling(units, np.ones(len(groups)), sampling.kind)
    return over_items.ratio(-(first * later_second + second * later_first), 2 * first * second)


def _entry(estimate: Estimate | None, place: int) -> Estimate:
    if estimate is None:
        return Estimate(*(np.array(np.nan),) * 4, np.array(0))
    parts = ("value", "standard_error", "low", "high", "documents")
    return Estimate(*(np.asarray(getattr(estimate, part))[place] for part in parts))


def _notes(left_out: int, size: float, items: int) -> tuple[str, ...]:
    notes = []
    if left_out:
        notes.append(f"{left_out} prompts of groups with fewer than {LEAST} prompts are left out.")
    if size < ENOUGH:
        notes.append(f"{size:.1f} prompts per group are few: below {ENOUGH} little of the variation is seen.")
    if not items:
        notes.append(
            f"Not corrected for noise in what is followed: that needs {ENOUGH_ITEMS} sets of two or more prompts with "
            "the same group and answers."
        )
    return tuple(notes)
