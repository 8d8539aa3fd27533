"""What a tape has to know of torch's functions by their names: which change tensors in place, which give nothing that
can be followed, and which go on with choices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

UNSEEN = frozenset(["__setitem__", "item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__"])
"""Functions that take a value off the tape: into a part of another tensor, or into a Python number."""

EMPTY = frozenset(["new_empty", "empty_like"])
"""Functions that make tensors whose values mean nothing yet: no difference comes from them."""

FILLED = frozenset(["new_ones", "new_zeros", "new_full", "zeros_like", "ones_like", "full_like"])
"""Functions that take no more than shape and type from a tensor."""

_SIZES = frozenset(["__get__", "size", "dim", "numel", "__len__"])
"""Functions that ask for no more than these."""

_OF_CHOICES = (
    "long int bool to scatter unsqueeze squeeze expand view reshape contiguous transpose masked_fill __and__ __or__ "
    "__invert__ logical_and logical_or logical_not scaled_dot_product_attention"
)
_GOING_ON = frozenset(_OF_CHOICES.split())
"""Functions of choices (indices, masks) that a module made which is taken as one operation: what they give has the same
shape whatever was chosen."""

_IN_PLACE: dict[str, Callable[..., Any]] = {
    "__iadd__": torch.add,
    "__isub__": torch.sub,
    "__imul__": torch.mul,
    "__itruediv__": torch.div,
}


def passes_choices(name: str, args: tuple[Any, ...]) -> bool:
    """Whether a tape follows a function of choices.

    Args:
        name: the function's name.
        args: its arguments.
    """
    if name == "__getitem__":
        return not any(isinstance(leaf, Tensor) for leaf in tree_flatten(args[1:])[0])
    return name in _GOING_ON or name in FILLED or name in _SIZES


def settles(name: str) -> bool:
    """Whether what a function puts out is of moderate size, whatever was masked in what it reads.

    Args:
        name: the function's name.
    """
    return name in ("softmax", "scaled_dot_product_attention")


def in_place(func: Callable[..., Any]) -> bool:
    """Whether a function changes its first argument."""
    name = getattr(func, "__name__", "")
    return name in _IN_PLACE or (name.endswith("_") and not name.endswith("__"))


def out_of_place(func: Callable[..., Any]) -> Callable[..., Any] | None:
    """The function that gives the same without changing its first argument; None where there is none."""
    name = func.__name__
    pure: Callable[..., Any] | None = _IN_PLACE.get(name) or getattr(torch, name.rstrip("_"), None)
    return pure
