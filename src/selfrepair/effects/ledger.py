"""The ledger of one ablation, token by token: what was lost, what came back, and from where."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Ledger:
    """Accounts of some heads of one layer, each ablated in turn, over a batch of windows.

    All tensors are [head, window, position] in logits unless said otherwise; `position` p predicts token p + 1.
    Direct effects are taken with the clean final-norm scale. Lines that a head cannot have (of layers below it)
    are exactly zero.

    Attributes:
        layer: the layer of the ablated heads.
        heads: which heads of it.
        direct_effect: `DE = u . write / sigma`, clean.
        ablated_direct_effect: `DE'`, of what was put in the head's place.
        total_effect: `TE`, ablated minus clean centred logit of the target.
        by_attention: change in direct effect of each layer's attention, [head, window, position, layer].
        by_mlp: the same of each layer's MLP.
        by_head: the same of each head of each layer, [head, window, position, layer, head], where asked for.
        post_norms: what the scales of norms behind attention did (Gemma 2, OLMo 2); zero elsewhere.
        norm: what the final norm's scale did, `(1 - sigma'/sigma) (logit' - beta)`; the scaled logit `logit' - beta`
            is never taken as that difference.
        sigma_ratio: `sigma / sigma'`, clean over ablated; no unit.
    """

    layer: int
    heads: tuple[int, ...]
    direct_effect: Tensor
    ablated_direct_effect: Tensor
    total_effect: Tensor
    by_attention: Tensor
    by_mlp: Tensor
    by_head: Tensor | None
    post_norms: Tensor
    norm: Tensor
    sigma_ratio: Tensor

    @property
    def self_repair(self) -> Tensor:
        """`SR = TE - (DE' - DE)` (the paper's equation 1)."""
        return self.total_effect - (self.ablated_direct_effect - self.direct_effect)

    @property
    def repair_heads(self) -> Tensor:
        """Sum over downstream heads of the change in their direct effects."""
        return self.by_attention.sum(-1)

    @property
    def repair_mlps(self) -> Tensor:
        """Sum over MLPs of the change in their direct effects."""
        return self.by_mlp.sum(-1)

    @property
    def residual(self) -> Tensor:
        """What the ledger leaves over; zero but for rounding: `SR - heads - MLPs - post-norms - norm`."""
        return self.self_repair - self.repair_heads - self.repair_mlps - self.post_norms - self.norm


def norm_repair(sigma_ratio: Tensor, scaled_logit: Tensor) -> Tensor:
    """The final norm's line in closed form, `(1 - sigma'/sigma) (logit' - beta)` (docs/methods.md 2.3).

    Args:
        sigma_ratio: `sigma / sigma'`.
        scaled_logit: the part of the ablated run's centred logit that its scale divides, `logit' - beta`.
    """
    return (1 - 1 / sigma_ratio) * scaled_logit
