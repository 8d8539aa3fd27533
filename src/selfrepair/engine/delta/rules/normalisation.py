"""LayerNorm, RMSNorm and `rsqrt`: closed forms without cancellation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from selfrepair.engine.delta.rules.call import Call, Moved
from selfrepair.engine.delta.rules.secant import secant


def layer_norm(call: Call) -> Moved:
    """LayerNorm over the last axis: see `_normed`."""
    shape, weight = call.argument(1, "normalized_shape"), call.argument(2, "weight")
    return _normed(call, len(shape), weight, call.argument(4, "eps", 1e-5), centred=True)


def rms_norm(call: Call) -> Moved:
    """`F.rms_norm` over the last axis: see `_normed`."""
    shape, weight = call.argument(1, "normalized_shape"), call.argument(2, "weight")
    eps = call.argument(3, "eps")
    clean = call.clean(call.argument(0, "input"))
    eps = torch.finfo(clean.dtype).eps if eps is None else eps
    return _normed(call, len(shape), weight, eps, centred=False)


def _normed(call: Call, axes: int, weight: Any, eps: float, centred: bool) -> Moved:
    """With `r = 1/s`: `gain (P d r' + P c (r' - r))`, and `r' - r` from the change of `s^2`, free of cancellation."""
    source = call.argument(0, "input")
    difference = call.difference(source)
    if axes != 1 or difference is None:
        return secant(call)
    clean = call.clean(source)
    if centred:
        clean = clean - clean.mean(-1, keepdim=True)
        difference = difference - difference.mean(-1, keepdim=True)
    square = clean.square().mean(-1, keepdim=True) + eps
    change = (difference * (2 * clean + difference)).mean(-1, keepdim=True)
    inverse = square.rsqrt()
    shifted = (square + change).clamp_min(eps).rsqrt()
    normed = difference * shifted + clean * _change_of_rsqrt(change, inverse, shifted)
    return normed if call.clean(weight) is None else normed * call.clean(weight)


def reciprocal_root(call: Call) -> Tensor:
    """`rsqrt`: `-d r^2 r'^2 / (r + r')`."""
    source = call.operation.args[0]
    difference = call.difference(source)
    assert difference is not None
    return _change_of_rsqrt(difference, call.output(), call.full(source).rsqrt())


def _change_of_rsqrt(change: Tensor, inverse: Tensor, shifted: Tensor) -> Tensor:
    """`1/sqrt(a + change) - 1/sqrt(a)` from both terms, without subtracting them."""
    return -change * (inverse * shifted).square() / (inverse + shifted)
