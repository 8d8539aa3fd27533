"""How far an engine's effects are off: each of them, and means over a run beside their statistical error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_TINY = 1e-30


@dataclass(frozen=True)
class RelativeError:
    """Errors of an engine's effects in a trial.

    Attributes:
        per_token: RMS over heads and tokens of the error of total effects, over the RMS of the effects.
        bias: RMS over heads of the error of mean effects, less what errors without any bias would make it seem in a
            trial of few tokens (two standard errors of that), over the RMS of the standard errors that these means
            will have in the planned run.
    """

    per_token: float
    bias: float

    @classmethod
    def between(cls, effects: Tensor, truth: Tensor, planned: float) -> RelativeError:
        """Error of total effects [head, token] against true ones; infinite where either is not finite.

        Standard errors are of `planned` independent tokens: tokens of a document are not, so the run's are larger, and
        the bias a smaller share of them.

        Args:
            effects: of the engine.
            truth: of replay.
            planned: tokens that the run will measure.
        """
        error, exact = (effects - truth).double().flatten(1), truth.double().flatten(1)
        tokens = exact.shape[1]
        per_token = error.square().mean().sqrt() / exact.square().mean().sqrt().clamp_min(_TINY)
        variance, spread = (_variance(values) for values in (error, exact))
        by_chance = (1 + 2 * math.sqrt(2 / len(exact))) * variance.mean() / tokens
        square = (error.mean(1).square().mean() - by_chance).clamp_min(0)
        bias = (square / (spread.mean() / planned).clamp_min(_TINY)).sqrt()
        if not bool(torch.isfinite(error).all()):
            return cls(float("inf"), float("inf"))
        return cls(float(per_token), float(bias))


def _variance(values: Tensor) -> Tensor:
    """Over tokens, of each head; 0 where there is one token."""
    return values.var(1) if values.shape[1] > 1 else torch.zeros_like(values[:, 0])
