"""Interventions: the sites that one ablated run replaces, and those that it freezes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

from selfrepair.ablation.direction import is_direction, require_bookable
from selfrepair.ablation.site_names import parse_site, site_kind
from selfrepair.ablation.sites import Site
from selfrepair.errors import SelfRepairError
from selfrepair.model.ports import Port


@dataclass(frozen=True)
class Intervention:
    """One ablated run.

    Example:
        >>> intervention = Intervention(replaced=(Head(0, 1), Mlp(1)), frozen=(Head(1, 0),))
        >>> intervention.name, intervention.start
        ('L0H1+L1.mlp', 0)

    Attributes:
        replaced: sites that get the operator's output.
        frozen: sites held at their clean output, so that nothing is repaired through them. A site that is replaced
            too, alone or as part of a larger one, is replaced: "freeze all heads but this one" needs no list.
        name: name in results; the replaced sites by default.
    """

    replaced: tuple[Site, ...]
    frozen: tuple[Site, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        for site in (*self.replaced, *self.frozen):
            if not isinstance(site, Site):
                raise SelfRepairError(
                    f"{site!r} is not a site.",
                    "Give sites such as Head(9, 6), Mlp(9), Attention(9), Neuron(9, 123) or Direction.",
                )
        whole = {site.port.layer for site in self.sites if site.port.kind == "mlp" and site.port.write == 0}
        inside = next((site for site in self.sites if site.port.kind == "neurons" and site.port.layer in whole), None)
        if inside is not None:
            raise SelfRepairError(
                f"{inside} lies inside L{inside.port.layer}.mlp, which the same intervention replaces or freezes.",
                "Name the MLP or its neurons, not both.",
            )
        require_bookable(self.replaced, self.frozen)
        if not self.name:
            object.__setattr__(self, "name", "+".join(map(str, self.replaced)) or "nothing")

    @property
    def kind(self) -> str:
        """`head`, `attention`, `mixer`, `mlp`, `neuron` or `direction` for one whole site alone; `set` for others."""
        if len(self.replaced) != 1 or self.frozen:
            return "set"
        return site_kind(self.replaced[0]) if self.replaced[0].positions is None else "set"

    def described(self) -> dict[str, object]:
        """The intervention as names of sites, for plans; `parsed` reads it.

        Raises:
            SelfRepairError: a direction of the stream, whose name does not tell its vector.
        """
        direction = next(filter(is_direction, self.sites), None)
        if direction is not None:
            raise SelfRepairError(
                f"{direction} cannot be ablated over a corpus: the plan of a run holds names of sites, not vectors.",
                "Ablate it on prompts, with selfrepair.ablate or who, or sweep windows with an engine.",
            )
        return {
            "name": self.name,
            "replaced": [str(site) for site in self.replaced],
            "frozen": [str(site) for site in self.frozen],
        }

    @classmethod
    def parsed(cls, described: Mapping[str, Any]) -> Intervention:
        """The intervention that a plan describes.

        Raises:
            SelfRepairError: it names a site that is none.
        """
        replaced, frozen = (tuple(map(parse_site, described[part])) for part in ("replaced", "frozen"))
        return cls(replaced, frozen, str(described["name"]))

    @property
    def start(self) -> int | None:
        """The lowest layer in which a site is replaced: all below stays clean; None where nothing is replaced."""
        return min((site.port.layer for site in self.replaced), default=None)

    @property
    def sites(self) -> tuple[Site, ...]:
        """All sites, replaced and frozen."""
        return (*self.replaced, *self.frozen)

    def __str__(self) -> str:
        return self.name


def each(sites: Iterable[Site]) -> list[Intervention]:
    """One intervention for every site.

    Example:
        >>> [intervention.name for intervention in each([Head(0, 1), Mlp(1)])]
        ['L0H1', 'L1.mlp']

    Args:
        sites: sites to ablate, one in each run.
    """
    return [Intervention((site,)) for site in sites]


def together(name: str, sites: Iterable[Site]) -> Intervention:
    """All sites ablated in one run.

    Example:
        >>> together("movers", [Head(0, 1), Head(1, 0)]).replaced
        (Head(layer=0, head=1), Head(layer=1, head=0))

    Args:
        name: name of the run in results.
        sites: sites to ablate, of any layers and kinds.
    """
    return Intervention(tuple(sites), name=name)


def pairs(first: Sequence[Site], second: Sequence[Site] | None = None) -> list[Intervention]:
    """Two sites in every run: all pairs within one list, or one site of each of two lists.

    Example:
        >>> [intervention.name for intervention in pairs([Head(0, 0), Head(0, 1), Mlp(1)])]
        ['L0H0+L0H1', 'L0H0+L1.mlp', 'L0H1+L1.mlp']

    Args:
        first: sites of the first list.
        second: sites of the second; None for pairs within the first. No site is paired with itself.
    """
    both = combinations(first, 2) if second is None else product(first, second)
    return [Intervention(pair) for pair in both if pair[0] != pair[1]]


def freezing(intervention: Intervention, sites: Iterable[Site], name: str = "") -> Intervention:
    """The same intervention with more sites held at their clean output.

    Example:
        >>> without_mlp = freezing(Intervention((Head(0, 1),)), [Mlp(0), Mlp(1)])
        >>> without_mlp.name, without_mlp.frozen
        ('L0H1, 2 frozen', (Mlp(layer=0), Mlp(layer=1)))

    Args:
        intervention: an intervention.
        sites: further sites to freeze.
        name: name in results; by default the intervention's name with the number of frozen sites.
    """
    frozen = tuple(dict.fromkeys((*intervention.frozen, *sites)))
    return Intervention(intervention.replaced, frozen, name or f"{intervention.name}, {len(frozen)} frozen")


def by_start(interventions: Iterable[Intervention]) -> list[tuple[int, tuple[Intervention, ...]]]:
    """Interventions by the layer in which they start, the last layer first; those that replace nothing are left out."""
    groups: dict[int, list[Intervention]] = {}
    for intervention in interventions:
        if intervention.start is not None:
            groups.setdefault(intervention.start, []).append(intervention)
    return [(start, tuple(groups[start])) for start in sorted(groups, reverse=True)]


def ports_of(interventions: Iterable[Intervention]) -> frozenset[Port]:
    """All ports at which something is replaced or frozen.

    Example:
        >>> sorted(ports_of(each([Head(1, 0), Head(1, 1), Mlp(1)])))
        [Port(layer=1, kind='heads'), Port(layer=1, kind='mlp')]

    Args:
        interventions: ablated runs; `clean_run` and `port_outputs` need the ports of all of them.
    """
    return frozenset(site.port for intervention in interventions for site in intervention.sites)
