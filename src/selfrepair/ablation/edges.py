"""Edges between components, as graphs of circuits spell them: `a9.h9->a10.h0<q>`, `A9.9->A10.0.Q`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from selfrepair.ablation.sites import At, AtSpan, Site
from selfrepair.ablation.spellings import Component, End, Via, spelled
from selfrepair.errors import SelfRepairError

_HOOK = re.compile(r"(?:blocks\.\d{1,9}\.[\w.]+?|hook_\w+?)\[[^\[\]]*\]", re.IGNORECASE)
_ARROW = re.compile(r"\s*(?:<?->|→|<-(?!>)|←)\s*")
LONGEST = 1000  # characters of one edge: patterns for edges take quadratic time
_WRITE = "Write edges as L9H9->L10H0.q, a9.h9->a10.h0<q>, m5->logits or two hooks of TransformerLens."


@dataclass(frozen=True)
class Edge:
    """What one component writes and a later one reads; prints as `L9H9->L10H0.q`.

    Example:
        >>> str(Edge(Head(9, 9), Head(10, 0), "q")), str(Edge(Mlp(5), End("logits"), score=0.25))
        ('L9H9->L10H0.q', 'L5.mlp->logits')

    Attributes:
        sender: the component that writes; `End("input")` for the embeddings.
        receiver: the component that reads; `End("logits")` for the unembedding.
        via: the input of a receiving head, `q`, `k` or `v`; None for all of them, and for what has one input.
        score: the edge's score by some method, in its own units; None for none.
    """

    sender: Site | End
    receiver: Site | End
    via: Via | None = None
    score: float | None = field(default=None, compare=False)

    @property
    def sites(self) -> tuple[Site, ...]:
        """The components at its ends."""
        return tuple(end for end in (self.sender, self.receiver) if not isinstance(end, End))

    def __str__(self) -> str:
        return f"{self.sender}->{self.receiver}" + (f".{self.via}" if self.via else "")


def parse_edge(text: str, heads: Sequence[int] | None = None, score: float | None = None) -> Edge:
    """The edge that a text stands for; which end sends follows from depth, whichever comes first.

    Args:
        text: two components joined by an arrow, or two hooks of TransformerLens side by side.
        heads: number of heads of each layer; only `flat:114` needs it.
        score: score of the edge.

    Raises:
        SelfRepairError: it is not an edge.
    """
    first, second = ends_of(text, heads)
    return edge_between(first, second, text.strip(), score)


def edge_between(first: Component, second: Component, text: str = "", score: float | None = None) -> Edge:
    """The edge between two components, in either order.

    Args:
        first: one end.
        second: the other.
        text: the edge as it was given, for messages.
        score: score of the edge.

    Raises:
        SelfRepairError: none of the two reads what the other writes.
    """
    text = text or f"{first.site}->{second.site}"
    sender, receiver = sorted((first, second), key=_depth)
    for end in (sender.site, receiver.site):
        if isinstance(end, AtSpan | At):
            raise SelfRepairError(f"'{text}': edges are of all positions.", _WRITE)
    if _depth(sender) == _depth(receiver):
        raise SelfRepairError(f"'{text}': neither end comes before the other.", _WRITE)
    if sender.via is not None:
        raise SelfRepairError(f"'{text}': {sender.site}.{sender.via} is an input, which sends nothing.", _WRITE)
    assert not isinstance(sender.site, AtSpan) and not isinstance(receiver.site, AtSpan)
    return Edge(sender.site, receiver.site, receiver.via, score)


def ends_of(text: str, heads: Sequence[int] | None = None) -> tuple[Component, Component]:
    """Both ends of an edge as they are written; in graphs that have inputs as nodes, both may be of one component.

    Args:
        text: as for `parse_edge`.
        heads: as for `parse_edge`.

    Raises:
        SelfRepairError: it is not an edge.
    """
    ends = _ARROW.split(text.strip()) if len(text) <= LONGEST else []
    if len(ends) == 1:
        ends = [] if _HOOK.sub("", text).strip(" ,;\t()'\"") else _HOOK.findall(text)
    if len(ends) != 2:
        raise SelfRepairError(f"'{text.strip()[:80]}' is not an edge.", _WRITE)
    return spelled(ends[0], heads), spelled(ends[1], heads)


def _depth(component: Component) -> tuple[float, int]:
    site = component.site
    if isinstance(site, End):
        return (-1.0 if site.name == "input" else math.inf), 0
    bare = site.site if isinstance(site, AtSpan) else site
    return float(bare.port.layer), 0 if bare.port.kind == "heads" else 1
