"""Products with weights: one product at low precision, of the difference alone."""

from __future__ import annotations

import torch
from torch import Tensor

from selfrepair.engine.delta.rules.call import Call, Moved, lifted, rank_of
from selfrepair.engine.delta.rules.secant import secant
from selfrepair.engine.delta.tape import Ref


def linear(call: Call) -> Moved:
    """`x W^T + b`: the bias cancels, and one product at low precision is left."""
    source, weight = call.argument(0, "input"), call.argument(1, "weight")
    difference = call.difference(source)
    if difference is None or call.difference(weight) is not None:
        return secant(call)
    return _product(call, difference, weight, transposed=True)


def affine(call: Call) -> Moved:
    """`torch.addmm(bias, x, W)`, as GPT-2's `Conv1D` calls it."""
    bias, source, weight = (call.argument(i, name) for i, name in enumerate(("input", "mat1", "mat2")))
    difference, scaled = call.difference(source), {"beta", "alpha"} & set(call.operation.kwargs)
    if scaled or difference is None or call.difference(weight) is not None or call.difference(bias) is not None:
        return secant(call)
    return _product(call, difference, weight, transposed=False)


def matrix_product(call: Call) -> Moved:
    """`x W` with a weight as `linear`; of two activations by the secant rule, which takes one product, not two."""
    first, second = call.operation.args[:2]
    difference = call.difference(first)
    if difference is None or call.difference(second) is not None or call.operation.kwargs:
        return secant(call)
    if isinstance(second, Ref) and call.values.is_weight(second.index) and call.clean(second).ndim == 2:
        return _product(call, difference, second, transposed=False)
    return torch.matmul(lifted(difference, rank_of(call, first, second)), call.clean(second))


def _product(call: Call, difference: Tensor, weight: Ref, transposed: bool) -> Tensor:
    return call.values.precision.product(difference, call.values.prepared(weight.index, transposed))
