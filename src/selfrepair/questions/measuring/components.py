"""Every component that may cover for others, as one list: all heads, all mixers, all MLPs or the parts of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from selfrepair.ablation.direction import is_direction
from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.sites import Head, Mixer, Site
from selfrepair.ablation.sites_of_layers import mlp_sites
from selfrepair.model.anatomy import Anatomy
from selfrepair.model.ports import Port
from selfrepair.questions.measuring.prompt_effects import Array, PromptEffects


def lies_in(site: Site, sites: Iterable[Site]) -> bool:
    """Whether some of `sites` is this one, holds it, or lies inside it."""
    for other in sites:
        if other.port.layer != site.port.layer:
            continue
        if {site.port.kind, other.port.kind} == {"mlp", "neurons"} and not site.port.write + other.port.write:
            return True  # neurons are those of the first write
        if other.port == site.port and (None in (site.entries, other.entries) or _share(site, other)):
            return True
    return False


def _share(site: Site, other: Site) -> bool:
    return bool(set(site.entries or ()) & set(other.entries or ()))


@dataclass(frozen=True)
class Components:
    """The components of a model, in the order of all tables' columns.

    Attributes:
        heads: how many heads each layer has.
        mixers: all mixers.
        mlps: all MLPs, or the parts of those that write with several modules.
    """

    heads: tuple[int, ...]
    mixers: tuple[Site, ...]
    mlps: tuple[Site, ...]

    @classmethod
    def of(cls, anatomy: Anatomy) -> Components:
        """Of a model."""
        layers = range(anatomy.layers)
        mixers = tuple(Mixer(layer) for layer in layers if anatomy.blocks[layer].has_mixer)
        mlps = tuple(site for layer in layers for site in mlp_sites(anatomy, layer))
        return cls(tuple(anatomy.heads_by_layer), mixers, mlps)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """All of them."""
        heads = [Head(layer, head) for layer, number in enumerate(self.heads) for head in range(number)]
        return (*heads, *self.mixers, *self.mlps)

    @property
    def ports(self) -> tuple[Port, ...]:
        """Where they are, in the order of the list."""
        return tuple(dict.fromkeys(site.port for site in self.sites))

    @cached_property
    def index(self) -> dict[Site, int]:
        """Where each is in the list."""
        return {site: place for place, site in enumerate(self.sites)}

    @cached_property
    def layers(self) -> np.ndarray:
        """The layer of each."""
        return np.array([site.port.layer for site in self.sites])

    def lines(self, effects: PromptEffects, row: int) -> Array:
        """Lines of one intervention, [prompt, component]."""
        return self._flat(effects.heads[row], effects.mixers[row], effects.mlps[row])

    def direct_effects(self, effects: PromptEffects) -> Array:
        """Clean direct effects, [prompt, component]."""
        return self._flat(effects.direct_heads, effects.direct_mixers, effects.direct_mlps)

    def downstream(self, intervention: Intervention) -> tuple[Site, ...]:
        """Components that can respond to an intervention: from its first layer on, those that it replaces left out."""
        start, gone = intervention.start, intervention.replaced
        if start is None:
            return ()
        if any(is_direction(site) and site.port.layer == start for site in gone):
            start += 1  # a direction is replaced behind its block, which cannot respond
            return tuple(site for site in self.sites if site.port.layer >= start and not lies_in(site, gone))
        return tuple(site for site in self.sites if self._responds(site, start) and not lies_in(site, gone))

    @staticmethod
    def _responds(site: Site, start: int) -> bool:
        return site.port.layer > start or (site.port.layer == start and site.port.kind == "mlp")

    def _flat(self, heads: np.ndarray, mixers: np.ndarray, mlps: np.ndarray) -> Array:
        real = np.arange(heads.shape[-1]) < np.array(self.heads)[:, None]
        with_mixers = [site.port.layer for site in self.mixers]
        layers, writes = ([getattr(site.port, name) for site in self.mlps] for name in ("layer", "write"))
        return np.concatenate([heads[:, real], mixers[:, with_mixers], mlps[:, layers, writes]], -1).astype(np.float64)
