"""From engines' ledgers (tensors) to what statistics add up (arrays)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from selfrepair.effects.ledger import Ledger
from selfrepair.engine.clean import CleanRun
from selfrepair.statistics.accumulate import Components, TokenEffects


def token_effects(
    ledgers: Sequence[Ledger], clean: CleanRun, windows: np.ndarray, components: Components
) -> TokenEffects:
    """One chunk of arrays from ledgers of the same heads, one ledger per draw, averaged token by token.

    Direct effects are the clean run's own: filters choose by the very numbers that the survey had.

    Args:
        ledgers: the draws.
        clean: the clean run.
        windows: numbers of the windows.
        components: which lines to keep.
    """
    first = ledgers[0]

    def mean(tensors: list[Tensor]) -> np.ndarray:
        return torch.stack(tensors).mean(0).cpu().numpy() if len(tensors) > 1 else tensors[0].cpu().numpy()

    def of(name: str) -> np.ndarray:
        return mean([getattr(ledger, name) for ledger in ledgers])

    own = clean.direct_effects(first.layer)[..., list(first.heads)].movedim(-1, 0)
    quantities = {
        "direct_effect": own.cpu().numpy(),
        "ablated_direct_effect": of("ablated_direct_effect"),
        "total_effect": of("total_effect"),
        "self_repair": of("self_repair"),
        "repair_heads": of("repair_heads"),
        "repair_mlps": of("repair_mlps"),
        "repair_post_norms": of("post_norms"),
        "repair_norm": of("norm"),
        "sigma_ratio": of("sigma_ratio"),
    }
    if len(ledgers) > 1:
        for name in ("self_repair", "total_effect"):
            draws = torch.stack([getattr(ledger, name) for ledger in ledgers])
            quantities[f"donor_variance_{name}"] = draws.var(0).cpu().numpy()
    return TokenEffects(
        layer=first.layer,
        heads=np.array(first.heads),
        windows=windows,
        quantities=quantities,
        by_attention=None if components == "none" else of("by_attention"),
        by_mlp=None if components == "none" else of("by_mlp"),
        by_head=of("by_head") if components == "heads" else None,
    )
