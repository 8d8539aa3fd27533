"""A model's card: one number for the whole model, what it is made of, and its profile over depth."""

from __future__ import annotations

from dataclasses import dataclass

from selfrepair.effects.lines import LINE_QUANTITIES
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.intervals import Replicated

FRACTIONS = ("repaired_fraction", *(line.replace("repair", "fraction") for line in LINE_QUANTITIES))
CARD = ("lost_direct_effect", "self_repair", *FRACTIONS, "slope_through_origin", "share_repaired", "share_worse")


@dataclass(frozen=True)
class Card:
    """A model's self-repair in a few numbers, under one filter and one operator, which must be named beside it.

    Args:
        model: name (see `CARD`) to the number over all heads together, [...]; `repaired_fraction` is *the* number, and
            `fraction_heads`, `fraction_mlps`, `fraction_post_norms` and `fraction_norm` add up to it.
        layers: the same for the heads of each layer together, [..., layer].
    """

    model: dict[str, Estimate]
    layers: dict[str, Estimate]


def pooled_card(layers: Replicated) -> Card:
    """The card from sums [..., layer, feature] of all heads of each layer together, see `Replicated.pooled`.

    Pooling adds sums over heads, `sum SR / sum L`, so that heads weigh by the direct effect they lose; heads that
    lose next to nothing cannot blow the number up. Heads that were not measured have sums of 0 and add nothing.
    """
    model = layers.pooled(layers.documents.ndim - 1)
    return Card({name: model.estimate(name) for name in CARD}, {name: layers.estimate(name) for name in CARD})
