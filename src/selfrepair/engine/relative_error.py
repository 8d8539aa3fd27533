"""How far an engine's effects are off, relative to the effects."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class RelativeError:
    """Attributes:
    per_token: RMS over heads and tokens of the error of total effects, over the RMS of the effects.
    of_means: the same of every head's mean effect.
    """

    per_token: float
    of_means: float

    @classmethod
    def between(cls, effects: Tensor, truth: Tensor) -> RelativeError:
        """Error of total effects [head, ...] against true ones; infinite where either is not finite."""
        error, means = (effects - truth).double(), (effects - truth).flatten(1).double().mean(1)
        size = truth.double().square().mean().sqrt().clamp_min(1e-30)
        size_of_means = truth.flatten(1).double().mean(1).square().mean().sqrt().clamp_min(1e-30)
        per_token = (error.square().mean().sqrt() / size).nan_to_num(nan=float("inf"))
        of_means = (means.square().mean().sqrt() / size_of_means).nan_to_num(nan=float("inf"))
        return cls(float(per_token), float(of_means))
