"""Freeze tests: how much of the repair is gone when a component is held at its clean output, beside matched controls.

    CR_F(S) = m(S) - m(S; F frozen)          what F covers, with all that others do because of it
    share   = CR_F(S) / CR_all(S)            of the whole repair by components: everything downstream frozen

The line of a component is what it writes itself; the freeze test also holds what later components make of that.
Freezing anything changes something, so the same is done to controls: components of like layer, response and clean
direct effect that were not found to cover.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selfrepair.ablation.interventions import Intervention, freezing
from selfrepair.ablation.sites import Site
from selfrepair.questions.measuring.components import Components
from selfrepair.questions.measuring.prompt_effects import Array, PromptEffects

ALL_FROZEN = "all frozen"
_LAYERS_APART = 2.0  # as unlike as twice, or e times, the response


@dataclass(frozen=True)
class Likeness:
    """What controls are matched by, one entry per component.

    Attributes:
        components: of the model.
        responses: sizes of their responses, see `measuring.responses.response_sizes`.
        direct_effects: sizes of their clean direct effects.
    """

    components: Components
    responses: Array
    direct_effects: Array

    def distance(self, site: Site) -> Array:
        """How unlike each component is to a site, [component]; infinite for other kinds."""
        components, here = self.components, self.components.index[site]
        layers = np.abs(components.layers - components.layers[here]) / _LAYERS_APART
        kinds = np.array([other.port.kind != site.port.kind for other in components.sites])
        unlike = sum(np.abs(self._log(some) - self._log(some)[here]) for some in (self.responses, self.direct_effects))
        return np.where(kinds, np.inf, layers + unlike)

    def nearest(self, site: Site, pool: Sequence[Site]) -> list[Site]:
        """The pool, those most like a site first."""
        far, index = self.distance(site), self.components.index
        return sorted(pool, key=lambda other: (float(far[index[other]]), index[other]))

    @staticmethod
    def _log(values: Array) -> Array:
        floor = max(float(np.max(values, initial=0)) * 1e-4, 1e-12)
        return np.asarray(np.log(np.maximum(values, floor)))


def controls(likeness: Likeness, found: Sequence[Site], pool: Sequence[Site], number: int) -> list[Site]:
    """Controls for what was found: in turn the nearest to each, until there are `number`.

    Args:
        likeness: of all components.
        found: what the controls are for.
        pool: what may be a control.
        number: how many; fewer where the pool is small.
    """
    orders = [likeness.nearest(site, pool) for site in found]
    chosen: dict[Site, None] = {}
    for places in zip(*orders, strict=True):
        for site in places:
            if len(chosen) < number:
                chosen.setdefault(site)
    return list(chosen)


def matched_sets(
    likeness: Likeness, found: Sequence[Site], pool: Sequence[Site], number: int, seed: int
) -> list[tuple[Site, ...]]:
    """Random sets as large as `found`, each member drawn among those most like one of what was found.

    Args:
        likeness: of all components.
        found: the set.
        pool: what may be in a control set.
        number: how many sets.
        seed: of the draw.

    Returns:
        Sets that differ; fewer than `number`, or none, where the pool is small.
    """
    index, rng = likeness.components.index, np.random.default_rng(seed)
    near = 2 * len(found) + 3
    choices = [likeness.nearest(site, pool)[:near] for site in found]
    sets: dict[frozenset[Site], None] = {}
    for _ in range(20 * number):
        drawn: set[Site] = set()
        for choice in choices:
            left = [site for site in choice if site not in drawn]
            if left:
                drawn.add(left[int(rng.integers(len(left)))])
        if len(drawn) == len(found) and len(sets) < number:
            sets.setdefault(frozenset(drawn))
    return [tuple(sorted(some, key=index.__getitem__)) for some in sets]


def frozen_name(base: Intervention, sites: Sequence[Site]) -> str:
    """What a freeze test is called: `L9H9 | L10H7 frozen`."""
    return f"{base.name} | {'+'.join(map(str, sites))} frozen"


def freeze_tests(base: Intervention, sets: Sequence[Sequence[Site]]) -> list[Intervention]:
    """The base intervention with each of the sets frozen."""
    return [freezing(base, some, frozen_name(base, some)) for some in sets]


def all_frozen(base: Intervention, components: Components) -> Intervention:
    """The base intervention with everything downstream frozen: only norms can repair."""
    return freezing(base, components.downstream(base), f"{base.name} | {ALL_FROZEN}")


def covered(effects: PromptEffects, base: Intervention, frozen: Intervention) -> Array:
    """`m(S) - m(S; F frozen)`, [prompt]."""
    change: Array = effects.total_effect[effects.row(base.name)] - effects.total_effect[effects.row(frozen.name)]
    return change


def rank_p(found: float, among: Sequence[float]) -> float:
    """`(1 + controls at least as large) / (1 + controls)`."""
    return (1 + sum(one >= found for one in among)) / (1 + len(among))
