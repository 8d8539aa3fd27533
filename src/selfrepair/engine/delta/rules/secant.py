"""The secant rule, `f(clean + difference) - f(clean)`: true of every function."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from selfrepair.engine.delta.rules.call import Call, Moved, is_ref, lifted
from selfrepair.engine.delta.tape import Ref


def secant(call: Call) -> Moved:
    """`f(clean + difference) - f(clean)`, run by run: true of every function."""
    moving = _runs_that_move(call)
    return tuple(_where_moving(call, moving, change, i) for i, change in enumerate(secant_as_rounded(call)))


def secant_as_rounded(call: Call) -> tuple[Tensor, ...]:
    """The secant rule as it is rounded: a rule that uses it has to set what is exactly zero."""
    outputs = run_by_run(call, {i: call.moved(i) for i in call.moving}, call.values.clean)
    return tuple(call.change(value, i) for i, value in enumerate(outputs))


def _runs_that_move(call: Call) -> Tensor:
    """Whether anything differs in each run, [run]."""

    def differs(index: int) -> Tensor:
        return call.differences[index] != (call.values.clean(index) if call.values.jumps(index) else 0)

    return torch.stack([differs(index).flatten(1).any(1) for index in call.moving]).any(0)


def _where_moving(call: Call, moving: Tensor, change: Tensor, which: int) -> Tensor:
    """What is carried of a result, and in runs that stand still zero, or the clean value of what jumps: a function may
    round otherwise where it is given more runs at once."""
    jumps = call.values.jumps(call.operation.outputs[which])
    still = call.output(which).expand_as(change) if jumps else torch.zeros_like(change)
    return torch.where(moving.reshape(-1, *[1] * (change.ndim - 1)), change, still)


def run_by_run(call: Call, moving: dict[int, Tensor], standing: Callable[[int], Tensor]) -> tuple[Tensor, ...]:
    """The function's results for every run.

    Args:
        call: call whose function is run.
        moving: values that differ between runs, by number, [run, ...].
        standing: makes an argument of any other value, the same in each run.
    """
    operation = call.operation

    def function(*of_run: Tensor) -> tuple[Tensor, ...]:
        held = dict(zip(moving, of_run, strict=True))

        def value(leaf: Any) -> Any:
            if not isinstance(leaf, Ref):
                return leaf
            return held[leaf.index] if leaf.index in held else standing(leaf.index)

        args, kwargs = tree_map(value, (operation.args, operation.kwargs), is_leaf=is_ref)
        return _tensors(operation.func(*args, **kwargs))

    return tuple(torch.vmap(function)(*moving.values()))


def secant_elementwise(call: Call) -> Tensor:
    """The secant rule for functions of one number, exactly zero where the difference is."""
    (change,) = secant_as_rounded(call)
    still = None
    for index in call.moving:
        zero = lifted(call.differences[index], change.ndim - 1) == 0
        still = zero if still is None else still & zero
    assert still is not None
    return torch.where(still, torch.zeros((), dtype=change.dtype, device=change.device), change)


def opaque(call: Call) -> tuple[Tensor, ...]:
    """A whole module by the secant rule, runs folded into the batch: routers and whatever else is discrete.

    Run by run where it is also given a tensor that does not move (token ids, a mask): which axis of that counts
    windows, and would have to be repeated, is not certain.
    """

    def difference(full: Tensor, which: int) -> Tensor:
        change = call.change(full.reshape(call.runs, *call.output(which).shape), which)
        return _where_moving(call, moving, change, which)

    moving = _runs_that_move(call)
    outputs = _one_by_one(call) if _stands_beside(call) else _called(call, call.folded)
    return tuple(difference(full, i) for i, full in enumerate(outputs))


def _stands_beside(call: Call) -> bool:
    """Whether an argument that does not move is more than a number."""
    return any(call.values.clean(i).ndim for i in call.operation.inputs if i not in call.differences)


def _one_by_one(call: Call) -> tuple[Tensor, ...]:
    """A module's results for every run, one run after the other, [run, ...] each."""
    runs = [_called(call, partial(_of_run, call, run)) for run in range(call.runs)]
    return tuple(torch.stack(results) for results in zip(*runs, strict=True))


def _of_run(call: Call, run: int, argument: Any) -> Tensor:
    return call.full(argument)[run]


def _called(call: Call, moved: Callable[[Any], Tensor]) -> tuple[Tensor, ...]:
    """Results of the operation's function, with `moved` of the arguments that move and all others as they are."""

    def value(argument: Any) -> Any:
        return call.clean(argument) if call.difference(argument) is None else moved(argument)

    operation = call.operation
    args, kwargs = tree_map(value, (operation.args, operation.kwargs), is_leaf=is_ref)
    return _tensors(operation.func(*args, **kwargs))


def _tensors(result: Any) -> tuple[Tensor, ...]:
    return tuple(leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor))
