"""The ledger of ablated runs, token by token: what was lost, and which components compensated."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from selfrepair.ablation.interventions import Intervention
from selfrepair.effects.lines import LINE_NAMES


@dataclass(frozen=True)
class Ledger:
    """Accounts of some interventions, each in a run of its own, over a batch of windows.

    All tensors are [intervention, window, P] in logits unless noted otherwise, with P predictions per window as the
    readout has them. Direct effects are taken with the clean final-norm scale. Lines that an intervention cannot have
    (of layers below it, of what it replaces or freezes) are exactly zero.

    Example:
        >>> with model.running():
        ...     (ledger,) = ReplayEngine(fold=1).sweep(model, clean, each([Head(0, 1)]), donors.__getitem__, True)
        >>> ledger.total_effect.shape  # [intervention, window, P]
        torch.Size([1, 2, 11])
        >>> lost = ledger.direct_effect - ledger.ablated_direct_effect
        >>> bool((ledger.total_effect + lost - sum(ledger.lines.values())).abs().max() < 1e-4)
        True

    Attributes:
        interventions: the interventions; all of one chunk start in the same layer.
        direct_effect: `DE = u . write / sigma`, clean, added up over the replaced sites.
        ablated_direct_effect: `DE'`, of what was put in their places.
        total_effect: `TE`, what is measured in the ablated run minus the same in the clean one.
        by_attention: change in direct effect of each layer's heads that are not replaced,
            [intervention, window, P, layer].
        by_mlp: the same of each layer's MLP, what its replaced neurons lost left out.
        by_mlp_write: the same of each module that writes for it, which add up to it,
            [intervention, window, P, layer, write], where asked for; layers with fewer of them have zeros.
        by_mixer: the same of each layer's mixer; zero in layers without one.
        by_head: the same of each head of each layer, [intervention, window, P, layer, head], where asked for.
        post_norms: what the scales of norms behind attention did (Gemma 2, OLMo 2); zero elsewhere.
        norm: what the final norm's scale did, `(1 - sigma'/sigma) (logit' - beta)`; the scaled logit `logit' - beta`
            is never taken as that difference.
        sigma_ratio: `sigma / sigma'`, clean over ablated; no unit.
        curvature: what the total effect of a readout that is not linear in the logits has beyond its gradient; zero for
            logits and their differences.
    """

    interventions: tuple[Intervention, ...]
    direct_effect: Tensor
    ablated_direct_effect: Tensor
    total_effect: Tensor
    by_attention: Tensor
    by_mlp: Tensor
    by_mlp_write: Tensor | None
    by_mixer: Tensor
    by_head: Tensor | None
    post_norms: Tensor
    norm: Tensor
    sigma_ratio: Tensor
    curvature: Tensor

    @property
    def self_repair(self) -> Tensor:
        """`SR = TE - (DE' - DE)` (the paper's equation 1)."""
        return self.total_effect - (self.ablated_direct_effect - self.direct_effect)

    @property
    def lines(self) -> dict[str, Tensor]:
        """The lines by name, as `selfrepair.effects.lines` lists them."""
        components = (self.by_attention.sum(-1), self.by_mlp.sum(-1), self.by_mixer.sum(-1))
        lines = (*components, self.post_norms, self.norm, self.curvature)
        return dict(zip(LINE_NAMES, lines, strict=True))

    @property
    def residual(self) -> Tensor:
        """The residual, `SR` less all its lines; zero except for rounding."""
        residual = self.self_repair
        for line in self.lines.values():
            residual = residual - line
        return residual


def norm_repair(sigma_ratio: Tensor, scaled_logit: Tensor) -> Tensor:
    """The final norm's line in closed form, `(1 - sigma'/sigma) (logit' - beta)` (docs/methods.md 2.3).

    Args:
        sigma_ratio: `sigma / sigma'`.
        scaled_logit: the part of the ablated run's centred logit that its scale divides, `logit' - beta`.
    """
    return (1 - 1 / sigma_ratio) * scaled_logit
