"""A surrogate that knows nothing, as another package would offer it."""

from __future__ import annotations

from dataclasses import replace

import torch

from selfrepair.engine.surrogates import OwnPosition


class Noise(OwnPosition):
    """Effects of own positions drowned in noise, the same in every process."""

    name = "noise"
    words = "noise"

    def sweep(self, *given):
        """See `Surrogate`."""
        for number, ledger in enumerate(super().sweep(*given)):
            noise = torch.randn(ledger.total_effect.shape, generator=torch.Generator().manual_seed(number))
            yield replace(ledger, total_effect=ledger.total_effect + 3 * noise)
