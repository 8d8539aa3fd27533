"""Turns engines' ledgers (tensors) into the arrays that statistics add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from selfrepair.ablation.interventions import Intervention
from selfrepair.effects.ledger import Ledger
from selfrepair.effects.lines import LINES
from selfrepair.engine.accounts import direct_effects
from selfrepair.engine.clean import CleanRun
from selfrepair.statistics.accumulate import Components, TokenEffects


def token_effects(
    ledgers: Sequence[Ledger],
    clean: CleanRun,
    windows: np.ndarray,
    components: Components,
    cells: Mapping[Intervention, tuple[int, int]],
) -> TokenEffects:
    """One chunk of arrays from ledgers of the same interventions, one ledger per draw, averaged token by token.

    Direct effects are the clean run's own: filters choose by the same numbers as the survey.

    Args:
        ledgers: the draws.
        clean: the clean run.
        windows: numbers of the windows.
        components: which lines to keep.
        cells: where results keep each intervention; all of a chunk are in one row.
    """
    first = ledgers[0]

    def mean(tensors: list[Tensor]) -> np.ndarray:
        return torch.stack(tensors).mean(0).cpu().numpy() if len(tensors) > 1 else tensors[0].cpu().numpy()

    def of(name: str) -> np.ndarray:
        return mean([getattr(ledger, name) for ledger in ledgers])

    quantities = {
        "direct_effect": direct_effects(clean, first.interventions).cpu().numpy(),
        "ablated_direct_effect": of("ablated_direct_effect"),
        "total_effect": of("total_effect"),
        "self_repair": of("self_repair"),
        "sigma_ratio": of("sigma_ratio"),
    }
    quantities |= {line.quantity: mean([ledger.lines[line.name] for ledger in ledgers]) for line in LINES}
    if len(ledgers) > 1:
        for name in ("self_repair", "total_effect"):
            draws = torch.stack([getattr(ledger, name) for ledger in ledgers])
            quantities[f"donor_variance_{name}"] = draws.var(0).cpu().numpy()
    layers, heads = zip(*(cells[intervention] for intervention in first.interventions), strict=True)
    return TokenEffects(
        layer=layers[0],
        heads=np.array(heads),
        windows=windows,
        quantities=quantities,
        by_attention=None if components == "none" else of("by_attention"),
        by_mlp=None if components == "none" else of("by_mlp"),
        by_head=of("by_head") if components == "heads" else None,
    )
