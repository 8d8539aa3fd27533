"""Ledgers of which only some predictions are computed: NaN stands for all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

import torch
from torch import Tensor

from selfrepair.ablation.interventions import Intervention
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.clean import CleanRun
from selfrepair.model.anatomy import Anatomy

_PER_COMPONENT = ("by_head", "by_mlp_write")  # which a ledger need not have


def unknown_values(anatomy: Anatomy, clean: CleanRun, runs: int, per_component: bool) -> dict[str, Tensor]:
    """All that a ledger holds [run, window, P, ...], by name, NaN throughout.

    Args:
        anatomy: the model's parts.
        clean: the clean run.
        runs: how many interventions there are.
        per_component: whether there are lines of single components.
    """
    axes: dict[str, tuple[int, ...]] = dict.fromkeys(("by_attention", "by_mixer", "by_mlp"), (anatomy.layers,))
    axes |= {"by_head": (anatomy.layers, anatomy.heads), "by_mlp_write": (anatomy.layers, anatomy.mlp_writes)}
    left_out = {"interventions", *(() if per_component else _PER_COMPONENT)}
    names = [item.name for item in fields(Ledger) if item.name not in left_out]
    cells = (runs, *clean.reading.shape)
    return {name: clean.sigma.new_full((*cells, *axes.get(name, ())), torch.nan) for name in names}


def ledger_of(interventions: Sequence[Intervention], values: Mapping[str, Tensor]) -> Ledger:
    """The ledger that holds some values, as `unknown_values` has them."""
    always = {name: value for name, value in values.items() if name not in _PER_COMPONENT}
    by_head, by_mlp_write = (values.get(name) for name in _PER_COMPONENT)
    return Ledger(interventions=tuple(interventions), by_head=by_head, by_mlp_write=by_mlp_write, **always)
