"""Values that blocks leave for each other in their arguments, beside the stream: keys and values that a later layer
attends to as well (Gemma 4 E2B)."""

from __future__ import annotations

import copy
from collections.abc import Callable, MutableMapping
from typing import Any

import torch
from torch import Tensor

from selfrepair.model.taps import Arguments

Change = Callable[[tuple[object, ...], Tensor], Tensor]
"""From where a tensor is (names and numbers, outermost first) and the tensor to what takes its place."""


def changed(arguments: Arguments, change: Change) -> Arguments:
    """The same arguments with other tensors; tuples, lists and mappings that hold some are copied.

    Args:
        arguments: of a module.
        change: makes each tensor.
    """
    args, kwargs = arguments
    return (
        tuple(_changed(value, (number,), change) for number, value in enumerate(args)),
        {name: _changed(value, (name,), change) for name, value in kwargs.items()},
    )


def made_of_input(arguments: dict[int, Arguments]) -> Callable[[Tensor], Arguments]:
    """Arguments for a block's input [1, position, width], in which what other blocks left in a mapping is made of that
    input too, position by position, by random linear maps: as keys and values are that a lower layer computes.

    Args:
        arguments: of a block in forwards of 1 window, by number of positions.
    """
    axes = _axes_of_positions(arguments)
    maps: dict[tuple[object, ...], Tensor] = {}

    def given(hidden: Tensor) -> Arguments:
        def change(path: tuple[object, ...], value: Tensor) -> Tensor:
            if path not in axes:
                return value
            rest = value.transpose(0, axes[path])[0]
            if path not in maps:
                maps[path] = torch.randn(hidden.shape[-1], rest.numel(), dtype=torch.float64) * hidden.shape[-1] ** -0.5
            made = (hidden[0] @ maps[path]).reshape(-1, *rest.shape)
            return made.transpose(0, axes[path]).to(value.dtype)

        return changed(arguments[hidden.shape[1]], change)

    return given


def _changed(value: Any, path: tuple[object, ...], change: Change) -> Any:
    if isinstance(value, Tensor):
        return change(path, value)
    if type(value) in (tuple, list):
        return type(value)(_changed(entry, (*path, number), change) for number, entry in enumerate(value))
    if isinstance(value, MutableMapping):
        made: Any = copy.copy(value)
        for name in list(value):
            made[name] = _changed(value[name], (*path, name), change)
        return made
    return value


def _axes_of_positions(arguments: dict[int, Arguments]) -> dict[tuple[object, ...], int]:
    """Of tensors in mappings that blocks change, the axis that is as long as the text, where one is: by path."""
    shapes: dict[tuple[object, ...], list[tuple[int, tuple[int, ...]]]] = {}
    for positions, given in arguments.items():

        def note(path: tuple[object, ...], value: Tensor, positions: int = positions) -> Tensor:
            if value.is_floating_point():
                shapes.setdefault(path, []).append((positions, tuple(value.shape)))
            return value

        for name, held in given[1].items():
            if isinstance(held, MutableMapping):
                _changed(held, (name,), note)
    found = {}
    for path, seen in shapes.items():
        axes = [axis for axis in range(len(seen[0][1])) if all(shape[axis] == positions for positions, shape in seen)]
        if len(axes) == 1 and len(seen) == len(arguments):
            found[path] = axes[0]
    return found
