"""What a layer has to ablate."""

from __future__ import annotations

from selfrepair.ablation.sites import Attention, Mixer, Mlp, MlpPart, Site
from selfrepair.model.anatomy import Anatomy


def mlp_sites(anatomy: Anatomy, layer: int) -> list[Site]:
    """What a layer's MLP can have replaced: the MLP, each of its parts where several modules write, nothing without."""
    return [Mlp(layer) if part < 0 else MlpPart(layer, part) for part in anatomy.blocks[layer].mlp_parts]


def whole_sites(anatomy: Anatomy, layer: int) -> list[Site]:
    """All that a layer has: its heads together, its mixer, its MLP or each part of it."""
    block = anatomy.blocks[layer]
    first: list[Site] = [*([Attention(layer)] if block.heads else []), *([Mixer(layer)] if block.has_mixer else [])]
    return [*first, *mlp_sites(anatomy, layer)]
