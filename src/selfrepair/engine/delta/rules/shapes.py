"""Functions that are linear in what moves, and act on every run alone: views, copies, sums over axes, masks."""

from __future__ import annotations

import torch
from torch import Tensor

from selfrepair.engine.delta.rules.call import Call, lifted
from selfrepair.engine.delta.rules.secant import run_by_run, secant_elementwise


def structural(call: Call) -> tuple[Tensor, ...]:
    """Views, copies, sums over axes: the function itself, on the difference. What does not move counts as zero."""

    def standing(index: int) -> Tensor:
        clean = call.values.clean(index)
        return torch.zeros_like(clean) if clean.is_floating_point() else clean

    return run_by_run(call, {i: call.differences[i] for i in call.moving}, standing)


def shaped(call: Call) -> Tensor:
    """`view`, `reshape`: the clean result's shape, whatever way the difference lies in memory."""
    difference = call.difference(call.argument(0, "input"))
    assert difference is not None
    return difference.reshape(difference.shape[0], *call.output().shape)


def same(call: Call) -> Tensor:
    """Copies, and dropout at inference."""
    difference = call.difference(call.argument(0, "input"))
    assert difference is not None
    return difference


def written_part(call: Call) -> Tensor:
    """A part of a tensor overwritten (`tape.written`): the same with differences."""
    whole, part, size, stride, offset = call.operation.args
    clean, change = call.clean(whole), call.difference(whole)
    filled = clean.new_zeros(call.runs, *clean.shape) if change is None else change.contiguous().clone()
    view = filled.as_strided((call.runs, *size), (clean.numel(), *stride), offset)
    moved = call.difference(part)
    view.copy_(torch.zeros_like(view) if moved is None else lifted(moved, len(size)))
    return filled


def as_complex(call: Call) -> Tensor:
    """Pairs of numbers as complex ones (rotary codes of Llama 4)."""
    difference = call.difference(call.argument(0, "input"))
    assert difference is not None
    return torch.view_as_complex(difference.contiguous())


def as_pairs(call: Call) -> Tensor:
    """Complex numbers as pairs."""
    difference = call.difference(call.argument(0, "input"))
    assert difference is not None
    return torch.view_as_real(difference)


def masked_fill(call: Call) -> Tensor:
    """Constants are written where the mask is: no difference is left there."""
    source, mask = call.operation.args[0], call.argument(1, "mask")
    difference = call.difference(source)
    if difference is None or call.difference(call.argument(2, "value")) is not None:
        return secant_elementwise(call)
    return difference.masked_fill(call.clean(mask), 0.0)
