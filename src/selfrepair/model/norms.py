"""Norms as a projection, a scale that depends on the input, and a gain; read from modules by trying."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor, nn

from selfrepair.model.constants import without_bias

REFUSED = (
    "Only decoders with a LayerNorm or RMSNorm there are supported: remove hooks and whatever else changes what it "
    "computes, or load the plain model."
)
"""What to do about a norm that is neither of these."""

_EPSILONS = (1e-5, 1e-6, 1e-8, 1e-12, 0.0)  # for norms that write theirs into the code (OLMo)


@dataclass(frozen=True)
class Norm:
    """`y = gain * P x / s(x) + bias` with `s(x) = sqrt(mean((P x)^2) + eps)`.

    `P` removes the mean over the last axis where `centred` (LayerNorm) and is the identity elsewhere (RMSNorm).

    Attributes:
        centred: whether the norm removes the mean.
        gain: shape [width].
        bias: shape [width].
        eps: added under the square root.
    """

    centred: bool
    gain: Tensor
    bias: Tensor
    eps: float

    def centre(self, x: Tensor) -> Tensor:
        """`P x`, same shape."""
        return x - x.mean(-1, keepdim=True) if self.centred else x

    def scale(self, x: Tensor) -> Tensor:
        """`s(x)`; shape of `x` without its last axis."""
        return (self.centre(x).square().mean(-1) + self.eps).sqrt()

    def fold(self, direction: Tensor) -> Tensor:
        """The direction `f` with `direction . y = f . x / s(x) + direction . bias`; same shape."""
        return self.centre(self.gain * direction)

    def __call__(self, x: Tensor) -> Tensor:
        """The norm itself, from its parts; what `read_norm` compares with the module."""
        return self.gain * self.centre(x) / self.scale(x).unsqueeze(-1) + self.bias


def read_norm(module: nn.Module, width: int, dtype: torch.dtype, device: torch.device) -> Norm | None:
    """The `Norm` that reproduces `module` on random inputs, or None where none does.

    Gains that are stored as `w` and as `1 + w`, missing gains and hard-coded epsilons are distinguished by
    trying them; inputs go down to a norm at which epsilon matters.
    """
    if any(value.shape != (width,) for value in module.parameters()):
        return None
    probes = _probes(width, dtype, device)
    wanted, bare = module(probes), without_bias(module, probes)  # a large bias would hide a wrong gain
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    for norm in _candidates(module, width, dtype, device):
        plain = replace(norm, bias=torch.zeros_like(norm.bias))
        if max(_error(plain(probes), bare), _error(norm(probes), wanted)) < tolerance:
            return norm
    return None


def _error(output: Tensor, wanted: Tensor) -> float:
    """The largest error of any row, relative to the row's largest entry."""
    return float(((output - wanted).abs().amax(-1) / wanted.abs().amax(-1).clamp_min(1e-30)).max())


def _probes(width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([3e-4, 1e-2, 1.0, 30.0]).unsqueeze(-1)
    probes = sizes * (torch.randn(4, width, generator=generator) + 0.5)
    return probes.to(device=device, dtype=dtype)


def _candidates(module: nn.Module, width: int, dtype: torch.dtype, device: torch.device) -> Iterator[Norm]:
    ones = torch.ones(width, dtype=dtype, device=device)
    weight, bias = (getattr(module, name, None) for name in ("weight", "bias"))
    gains = [ones] if weight is None else [weight.detach().to(ones), 1 + weight.detach().to(ones)]
    offset = ones * 0 if bias is None else bias.detach().to(ones)
    own = [value for value in vars(module).values() if isinstance(value, float)]
    for centred, gain, eps in product((False, True), gains, (*own, *_EPSILONS)):
        yield Norm(centred, gain, offset, eps)
