"""What a write to the residual stream is worth to the target's logit."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from selfrepair.model.anatomy import Anatomy


@dataclass(frozen=True)
class Directions:
    """Unembedding directions of the targets, with the final norm's gain folded in and the vocabulary's mean out.

    `centred logit = u . residual / sigma + beta`, exactly, with `sigma` the final norm's scale; the first part is
    the scaled logit, on which alone ablations have an effect
    (docs/methods.md 1.2): `u = P(gamma * (w_t - mean w))`, `beta = bias_norm . (w_t - mean w) + b_t - mean b`.

    Attributes:
        u: [window, position, width].
        beta: [window, position].
    """

    u: Tensor
    beta: Tensor


def target_directions(anatomy: Anatomy, targets: Tensor) -> Directions:
    """Directions of the given target tokens [window, position]."""
    readout, norm = anatomy.readout, anatomy.final_norm
    rows = readout.weight[targets] - readout.mean_weight
    beta = (rows * norm.bias).sum(-1)
    if readout.bias is not None:
        beta = beta + readout.bias[targets] - readout.mean_bias
    return Directions(readout.multiplier * norm.fold(rows), readout.multiplier * beta)
