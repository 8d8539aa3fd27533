"""Ablated runs that begin alike: the layers that several have in common are computed once.

Two runs that replace and freeze the same sites in all layers below one are the same run up to there. Freeze tests of
one ablation, "all but one" and "one more" of a set differ in a single layer, so most of each is in the ablation itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.sites import Site
from selfrepair.engine.accounts import Booked

Signature = frozenset[tuple[bool, Site]]
"""What a run does in one layer: sites, each with whether it is replaced."""


@dataclass(frozen=True)
class Fork:
    """Where a run leaves another.

    Attributes:
        intervention: the run.
        parent: the run that it is like in all layers below; None for the clean run.
        layer: the first layer in which it is not.
        generation: 0 for runs that leave the clean run, one more than the parent's for others.
    """

    intervention: Intervention
    parent: Intervention | None
    layer: int
    generation: int

    @property
    def start(self) -> int:
        """The first layer in which the run differs from the clean one."""
        assert self.intervention.start is not None
        return self.intervention.start


class Origin(NamedTuple):
    """What a run takes over from its parent.

    Attributes:
        stream: the parent's stream that enters the fork's layer, [window, position, width].
        booked: what the parent's accounts held then.
    """

    stream: Tensor
    booked: Booked


@dataclass
class _Node:
    """All runs that are alike up to some layer."""

    owner: Fork | None
    following: dict[Signature, _Node] = field(default_factory=dict)


def forks(interventions: Iterable[Intervention], layers: int, common: bool = True) -> list[Fork]:
    """Where each run leaves an earlier one of the list that it has most in common with.

    Args:
        interventions: the runs; those that replace nothing are left out.
        layers: of the model; no run forks above its last layer.
        common: whether runs may have layers in common; if not, all leave the clean run.
    """
    root, found = _Node(None), []
    for intervention in interventions:
        if intervention.start is None:
            continue
        if not common:
            root = _Node(None)
        signatures = _signatures(intervention, layers)
        node, layer = root, 0
        while layer < layers and signatures[layer] in node.following:
            node, layer = node.following[signatures[layer]], layer + 1
        parent = node.owner
        fork = Fork(
            intervention=intervention,
            parent=None if parent is None else parent.intervention,
            layer=intervention.start if parent is None else min(layer, layers - 1),
            generation=0 if parent is None else parent.generation + 1,
        )
        found.append(fork)
        for signature in signatures[layer:]:
            clean = node.owner is None and not signature
            node = node.following.setdefault(signature, _Node(None if clean else fork))
    return found


def families(found: Iterable[Fork]) -> list[list[Fork]]:
    """Forks that have to do with each other, so that what one keeps for others can go when its family is done.

    Runs without parent and children come first, all together: they keep nothing.
    """
    by_root: dict[Intervention, list[Fork]] = {}
    roots: dict[Intervention, Intervention] = {}
    for fork in found:  # parents stand before their children
        root = fork.intervention if fork.parent is None else roots[fork.parent]
        roots[fork.intervention] = root
        by_root.setdefault(root, []).append(fork)
    alone = [family[0] for family in by_root.values() if len(family) == 1]
    return [*([alone] if alone else []), *(family for family in by_root.values() if len(family) > 1)]


def in_order(found: Sequence[Fork]) -> list[list[Fork]]:
    """Forks in groups that a batch can hold, parents before children, those of the last layers first.

    Runs of a group start in the same layer and leave their parents in the same layer.
    """
    groups: dict[tuple[int, int, int], list[Fork]] = {}
    for fork in found:
        groups.setdefault((fork.generation, -fork.layer, -fork.start), []).append(fork)
    return [groups[key] for key in sorted(groups)]


def left_at(found: Iterable[Fork]) -> dict[Intervention, set[int]]:
    """In which layers other runs leave each run."""
    layers: dict[Intervention, set[int]] = {}
    for fork in found:
        if fork.parent is not None:
            layers.setdefault(fork.parent, set()).add(fork.layer)
    return layers


def _signatures(intervention: Intervention, layers: int) -> list[Signature]:
    """What a run does in each layer; nothing happens below its start."""
    sites: list[set[tuple[bool, Site]]] = [set() for _ in range(layers)]
    assert intervention.start is not None
    for replaced, chosen in ((True, intervention.replaced), (False, intervention.frozen)):
        for site in chosen:
            if site.port.layer >= intervention.start:
                sites[site.port.layer].add((replaced, site))
    return [frozenset(some) for some in sites]
