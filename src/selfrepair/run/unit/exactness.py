"""How exact a sweep has been: residuals of its ledgers, the numerical floor, and a sample against replay."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass

import numpy as np
import torch
from torch import Tensor

from selfrepair.effects.ledger import Ledger
from selfrepair.engine.clean import CleanRun
from selfrepair.run.storage.unit_file import Arrays

_ROUNDINGS = 8  # roundings of the residual stream per layer: attention's and the MLP's writes, with room


def ledger_rounding(clean: CleanRun) -> Tensor:
    """What rounding may leave in a token's logit, [window, P].

    Rounding of a write is rounding of the residual stream it is added to; what that is worth in logits at most is its
    norm times the direction's, and it happens twice a layer. Constants of the logits (`beta`) have no part in it.
    """
    precision = torch.finfo(clean.scaled_logit.dtype).eps
    stream = torch.stack([clean.reading.at(stream.norm(dim=-1), 0) for stream in clean.residuals]).amax(0)
    size = clean.direction.norm(dim=-1) * stream + clean.scaled_logit.abs()
    left: Tensor = _ROUNDINGS * len(clean.residuals) * precision * size
    return left.clamp_min(torch.finfo(size.dtype).tiny)


def largest_error(errors: Tensor) -> float:
    """The largest absolute entry, 0 if there are none; infinite if one is NaN, which `max` would drop."""
    return float(errors.abs().nan_to_num(nan=torch.inf).max()) if errors.numel() else 0.0


@dataclass(frozen=True)
class Sampled:
    """An engine's effects against replay's on a sample of (head, token) pairs; mean squares, squared logits.

    Attributes:
        error: mean square of the differences.
        size: mean square of the effects.
        rounding: mean square of what rounding may leave.
    """

    error: float
    size: float
    rounding: float


@dataclass
class Accuracy:
    """Errors in logits, the largest over all tokens scored.

    Attributes:
        residual: amount by which a ledger failed to close.
        excess: that amount over what rounding may leave on that token; above 1 the ledger does not close.
        floor: effect of a head ablated with its own clean output; None until it is measured.
        floor_excess: that effect over what rounding may leave.
        error: mean square of the errors of total effects on a sample of (head, token) pairs, see `Sampled`; None where
            the engine is exact. Likewise size and rounding.
        residual_squares: sum over all (head, token) pairs.
        effect_squares: sum of their total effects' squares.
    """

    residual: float = 0.0
    excess: float = 0.0
    floor: float | None = None
    floor_excess: float | None = None
    error: float | None = None
    size: float | None = None
    rounding: float | None = None
    residual_squares: float = 0.0
    effect_squares: float = 0.0

    @property
    def relative_error(self) -> float | None:
        """RMS error per token over RMS effect, in the sample."""
        if self.error is None or self.size is None:
            return None
        return math.sqrt(self.error / max(self.size, 1e-300))

    @property
    def error_excess(self) -> float | None:
        """RMS error per token over what rounding may leave, in the sample."""
        if self.error is None or self.rounding is None:
            return None
        return math.sqrt(self.error / max(self.rounding, 1e-300))

    @property
    def effect_excess(self) -> float:
        """RMS effect over what rounding may leave, in the sample; infinite where there is no sample."""
        if self.size is None or self.rounding is None:
            return math.inf
        return math.sqrt(self.size / max(self.rounding, 1e-300))

    @property
    def relative_residual(self) -> float:
        """RMS residual over RMS effect: what rounding costs at this precision; 0 where nothing has an effect."""
        return math.sqrt(self.residual_squares / self.effect_squares) if self.effect_squares else 0.0

    @property
    def closes(self) -> bool:
        """Whether every ledger closed to rounding."""
        return self.excess <= 1.0

    def check(self, ledger: Ledger, clean: CleanRun, scored: Tensor) -> None:
        """Books how well a chunk's ledgers close, token by token.

        Args:
            ledger: the chunk.
            clean: clean run of its windows.
            scored: the tokens that count, bool [window, P], or [intervention, window, P] where they differ.
        """
        if not scored.any():
            return
        left = ledger_rounding(clean)
        every = (slice(None), scored) if scored.ndim == left.ndim else scored
        bound = left[scored] if scored.ndim == left.ndim else left.expand(scored.shape)[scored]
        residual = ledger.residual[every].abs().nan_to_num(nan=torch.inf, posinf=torch.inf)
        self.residual = max(self.residual, float(residual.max()))
        self.excess = max(self.excess, float((residual / bound).max()))
        self.residual_squares += float(residual.double().square().sum())
        self.effect_squares += float(ledger.total_effect[every].double().square().sum())

    def sampled(self, sample: Sampled) -> None:
        """Books a sample against replay; NaN counts as an infinite error."""
        self.error = sample.error if math.isfinite(sample.error) else math.inf
        self.size, self.rounding = sample.size, sample.rounding

    def arrays(self) -> Arrays:
        """The accuracy as an array of a unit's file."""
        return {"accuracy": np.array([np.nan if number is None else number for number in astuple(self)])}

    @classmethod
    def of(cls, units: Iterable[np.ndarray]) -> Accuracy:
        """The worst of several units' `accuracy` arrays; their samples' errors together."""
        rows = np.array(list(units)).reshape(-1, len(astuple(cls())))
        worst, samples, sums = rows[:, :4], rows[~np.isnan(rows[:, 4]), 4:7], rows[:, 7:].sum(0)
        floors = worst[~np.isnan(worst[:, 2]), 2:]
        residual, excess = (float(number) for number in worst[:, :2].max(0, initial=0))
        floor, floor_excess = map(float, floors.max(0)) if len(floors) else (None, None)
        error, size, rounded = map(float, samples.mean(0)) if len(samples) else (None, None, None)
        return cls(residual, excess, floor, floor_excess, error, size, rounded, *map(float, sums))
