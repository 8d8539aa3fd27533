"""Where an ablation takes place."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from selfrepair.model.anatomy import Anatomy


class Head(NamedTuple):
    """One attention head; prints as researchers write it, `L9H6`."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head}"


def all_heads(anatomy: Anatomy) -> list[Head]:
    """Every head, last layer first: a run cut short then has the cheap and telling ones."""
    layers = reversed(range(anatomy.layers))
    return [Head(layer, head) for layer in layers for head in range(anatomy.blocks[layer].heads)]


def by_layer(units: Iterable[Head]) -> list[tuple[int, tuple[int, ...]]]:
    """(layer, heads) pairs, in the order in which the layers first come."""
    groups = groupby(sorted(units, key=attrgetter("layer"), reverse=True), key=attrgetter("layer"))
    return [(layer, tuple(unit.head for unit in group)) for layer, group in groups]
