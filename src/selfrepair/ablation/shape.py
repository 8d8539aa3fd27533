"""Shapes: how many layers, heads and neurons a model has; names are checked against them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from selfrepair.ablation.sites import At, AtSpan, Head, Neuron, Site
from selfrepair.errors import SelfRepairError

FROM_0 = "Layers and heads are counted from 0"
_LIKE_NEURONS = 256  # no attention has so many heads; every MLP has more neurons


@dataclass(frozen=True)
class Shape:
    """The numbers of a model's layers, heads and neurons.

    Attributes:
        heads: number of heads of each layer.
        key_heads: heads that have keys and values of their own, each shared by a group of query heads; None where it
            is not known.
        neurons: number of neurons of each layer's MLP; None where it is not known.
        width: width of the residual stream; None where it is not known.
        parallel: whether MLPs read what attention reads, not its result.
    """

    heads: tuple[int, ...]
    key_heads: int | None = None
    neurons: tuple[int, ...] | None = None
    width: int | None = None
    parallel: bool = False

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.heads)

    @property
    def in_words(self) -> str:
        """`12 layers of 12 heads`."""
        fewest, most = min(self.heads, default=0), max(self.heads, default=0)
        return f"{self.layers} layers of {most if fewest == most else f'{fewest} to {most}'} heads"


class Decoder(Protocol):
    """The part of an anatomy that is used here; a protocol, because names are read where no torch is loaded."""

    @property
    def heads_by_layer(self) -> list[int]:
        """How many heads each layer has."""
        ...


class Model(Protocol):
    """A model that was loaded."""

    @property
    def anatomy(self) -> Decoder:
        """Its parts."""
        ...


Shaped = Model | Decoder | Shape | Sequence[int]


def shape_of(given: Shaped) -> Shape:
    """The shape of a model.

    Args:
        given: a model, its anatomy or shape, or the number of heads of each layer.
    """
    if isinstance(given, Shape):
        return given
    anatomy: Any = getattr(given, "anatomy", given)
    config = getattr(getattr(anatomy, "trunk", None), "config", None)
    key_heads = getattr(config, "num_key_value_heads", None)
    heads = getattr(anatomy, "heads_by_layer", anatomy)
    return Shape(
        tuple(heads),
        key_heads if isinstance(key_heads, int) and key_heads > 0 else None,
        width=getattr(anatomy, "width", None),
        parallel=any(block.parallel for block in getattr(anatomy, "blocks", ())),
    )


def key_group(head: Head, shape: Shape | None) -> tuple[Head, ...]:
    """The heads that share a head's keys and values, itself among them.

    Raises:
        SelfRepairError: it is not known which heads share them.
    """
    heads = None if shape is None or head.layer >= shape.layers else shape.heads[head.layer]
    key_heads = None if shape is None else shape.key_heads
    if heads is None or key_heads is None or heads % key_heads:
        raise SelfRepairError(
            f"Keys and values of {head} may be shared by several heads, and which is not known without its model.",
            "Give the model, or name the heads.",
        )
    size = heads // key_heads
    first = head.head // size * size
    return tuple(Head(head.layer, number) for number in range(first, first + size))


def require_existing(sites: Iterable[Site | AtSpan], shape: Shape) -> None:
    """Refuses sites that a model does not have.

    Raises:
        SelfRepairError: names all of them, and what there is.
    """
    bare = [site.site if isinstance(site, At | AtSpan) else site for site in sites]
    absent = [site for site in bare if not _there(site, shape)]
    if absent:
        raise no_such([str(site) for site in absent], shape.heads, absent)


def no_such(names: Sequence[str], heads: Sequence[int], absent: Sequence[Site] = ()) -> SelfRepairError:
    """The error for components that a model does not have.

    Args:
        names: names of the components.
        heads: number of heads of each layer.
        absent: the components, for a guess at what was meant.
    """
    numbers = f"heads 0 to {heads[0] - 1}"
    if len(set(heads)) > 1:
        numbers = f"different numbers of heads; in order they have {', '.join(map(str, heads))}"
    fix = f"The model has layers 0 to {len(heads) - 1} with {numbers}."
    if any(_one_too_far(site, heads) for site in absent):
        fix += f" {FROM_0}."
    like = next((site for site in absent if isinstance(site, Head) and site.head >= _LIKE_NEURONS), None)
    if like is not None:
        fix += f" Neuron {like.head} of layer {like.layer} is written L{like.layer}N{like.head}."
    all_heads = all(isinstance(site, Head) for site in absent)
    return SelfRepairError(f"There are no heads {', '.join(names)}." if all_heads else f"There is no {names[0]}.", fix)


def _there(site: Site, shape: Shape) -> bool:
    layer = site.port.layer
    if layer >= shape.layers:
        return False
    if isinstance(site, Head):
        return site.head < shape.heads[layer]
    return not isinstance(site, Neuron) or shape.neurons is None or site.neuron < shape.neurons[layer]


def _one_too_far(site: Site, heads: Sequence[int]) -> bool:
    """Whether it would be there if one counted from 1."""
    layer = site.port.layer
    if layer == len(heads):
        return True
    return isinstance(site, Head) and layer < len(heads) and site.head == heads[layer]
