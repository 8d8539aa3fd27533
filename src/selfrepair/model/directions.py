"""Unembedding directions: what a write to the residual stream is worth to the targets' logits."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from selfrepair.model.anatomy import Anatomy


@dataclass(frozen=True)
class Directions:
    """Unembedding directions of weighted targets, with the final norm's gain folded in and the vocabulary's mean out.

    `centred logit = u . residual / sigma + beta`, exactly, with `sigma` the final norm's scale; the first part is
    the scaled logit, on which alone ablations have an effect
    (docs/methods.md 1.2): `u = P(gamma * (w_t - mean w))`, `beta = bias_norm . (w_t - mean w) + b_t - mean b`.

    Attributes:
        u: [..., width].
        beta: [...].
    """

    u: Tensor
    beta: Tensor


def target_directions(anatomy: Anatomy, targets: Tensor, weights: Tensor) -> Directions:
    """Directions of weighted sums of tokens' centred logits.

    Weights are added up before the vocabulary's mean is taken out: where they add up to zero, as in a difference of
    two logits, nothing of it is left, however huge it is (padded rows at -1e9).

    Args:
        anatomy: the model's anatomy.
        targets: tokens [..., token].
        weights: factor of each target's centred logit, [..., token]; in full precision.

    Returns:
        [..., width] and [...].
    """
    unembedding, norm = anatomy.unembedding, anatomy.final_norm
    total, weights = weights.sum(-1).to(unembedding.weight), weights.to(unembedding.weight)
    rows = (unembedding.weight[targets] * weights.unsqueeze(-1)).sum(-2) - total.unsqueeze(-1) * unembedding.mean_weight
    beta = (rows * norm.bias).sum(-1)
    if unembedding.bias is not None:
        beta = beta + (unembedding.bias[targets] * weights).sum(-1) - total * unembedding.mean_bias
    return Directions(unembedding.multiplier * norm.fold(rows), unembedding.multiplier * beta)
