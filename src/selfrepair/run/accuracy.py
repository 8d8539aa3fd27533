"""How exact a sweep has been: residuals of its ledgers and the numerical floor."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from selfrepair.effects.ledger import Ledger
from selfrepair.engine.clean import CleanRun
from selfrepair.run.store import Arrays


@dataclass
class Accuracy:
    """Errors in logits, the largest over all tokens scored.

    Attributes:
        residual: amount by which a ledger failed to close.
        excess: that amount over what rounding may leave on that token; above 1 the ledger does not close.
        floor: effect of a head ablated with its own clean output; None before it was measured.
        error: of total effects against replay on a sample of (head, token) pairs, mean square, and `size`, the mean
            square of the effects; None where the engine is not a fast one.
    """

    residual: float = 0.0
    excess: float = 0.0
    floor: float | None = None
    error: float | None = None
    size: float | None = None

    @property
    def relative_error(self) -> float | None:
        """RMS error per token over RMS effect."""
        if self.error is None or self.size is None:
            return None
        return math.sqrt(self.error / max(self.size, 1e-300))

    @property
    def closes(self) -> bool:
        """Whether every ledger closed to rounding."""
        return self.excess <= 1.0

    def check(self, ledger: Ledger, clean: CleanRun, scored: Tensor) -> None:
        """Books how well a chunk's ledgers close, token by token.

        Rounding of a write is rounding of the residual stream it is added to; what that is worth in logits at
        most is its norm times the direction's, and it happens twice a layer.
        """
        if not scored.any():
            return
        precision = torch.finfo(clean.scaled_logit.dtype).eps
        stream = torch.stack([r[:, :-1].norm(dim=-1) for r in clean.residuals]).amax(0)
        size = clean.direction.norm(dim=-1) * stream + clean.scaled_logit.abs() + 1
        allowed = 8 * len(clean.residuals) * precision * size
        residual = ledger.residual.abs()[:, scored]
        residual = torch.where(torch.isfinite(residual), residual, torch.inf)
        self.residual = max(self.residual, float(residual.max()))
        self.excess = max(self.excess, float((residual / allowed[scored]).max()))

    def arrays(self) -> Arrays:
        """As a unit's file holds it."""
        numbers = (self.residual, self.excess, self.floor, self.error, self.size)
        return {"accuracy": np.array([np.nan if number is None else number for number in numbers])}

    @classmethod
    def of(cls, units: Iterable[np.ndarray]) -> Accuracy:
        """The worst of several units' `accuracy` arrays; their samples' errors together."""
        rows = np.array(list(units)).reshape(-1, 5)
        floors, samples = rows[~np.isnan(rows[:, 2]), 2], rows[~np.isnan(rows[:, 3]), 3:]
        error, size = map(float, samples.mean(0)) if len(samples) else (None, None)
        floor = float(floors.max()) if len(floors) else None
        return cls(float(rows[:, 0].max(initial=0)), float(rows[:, 1].max(initial=0)), floor, error, size)
