"""Softmax and attention: the secant rule over rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from selfrepair.engine.delta.rules.call import Call
from selfrepair.engine.delta.rules.secant import secant_as_rounded
from selfrepair.engine.delta.tape import Ref


def attention(call: Call) -> Tensor:
    """`F.scaled_dot_product_attention`, by the secant rule, runs folded into the batch: the fused kernel stays."""
    arguments = call.operation.args
    named = call.operation.kwargs
    runs, output = call.runs, call.output()
    batch = output.shape[0]

    def folded(argument: Any) -> Any:
        if not isinstance(argument, Ref):
            return argument
        if call.difference(argument) is not None:
            return call.folded(argument)
        clean = call.clean(argument)
        if clean.ndim < output.ndim or clean.shape[0] != batch or batch == 1:
            return clean  # a mask for all windows
        return clean.expand(runs, *clean.shape).flatten(0, 1)

    given = [folded(argument) for argument in arguments]
    if batch == 1:  # queries, keys and values that do not move have to be as many as those that do
        given[:3] = [g.expand(runs, *g.shape[1:]) for g in given[:3]]
    output_of_all = call.operation.func(*given, **{name: folded(argument) for name, argument in named.items()})
    full: Tensor = output_of_all.reshape(runs, *output.shape)
    return full - output


def secant_rows(call: Call) -> Tensor:
    """The secant rule for softmax, exactly zero where nothing in a row moves."""
    (change,) = secant_as_rounded(call)
    source = call.operation.args[0]
    difference = call.difference(source)
    assert difference is not None
    axis = call.argument(1, "dim", -1)
    axis = axis % call.output().ndim + 1
    still = (difference == 0).all(axis, keepdim=True)
    return torch.where(still, torch.zeros((), dtype=change.dtype, device=change.device), change)
