"""A window with copies of some of its positions behind it, as blocks read it.

A copy stands for its position in another ablated run: it attends to the window's own positions before its own, and to
itself, and no position attends to it. So one call of a block computes any number of runs that each differ from the
clean one at a single position, at the price of one row each. Masks, rotary tables and biases are those that the model's
own trunk makes for the window; rows and columns of the copies are taken from them.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from selfrepair.errors import RefusedModel
from selfrepair.model.arguments import block_arguments
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.taps import Arguments, main_argument, with_input

IDENTITY = "own positions"
_MASK = "attention_mask"
_READABLE = (None, "eager", "sdpa")


class Copies:
    """Arguments of all blocks for one window and copies of its positions.

    Args:
        model: the model. Call under `model.running()`, with no hooks in place.
        tokens: the window [1, position].
        positions: the position that each copy stands for [copy].

    Raises:
        RefusedModel: attention that takes no mask of our making, or arguments that cannot be extended.
    """

    def __init__(self, model: LanguageModel, tokens: Tensor, positions: Tensor) -> None:
        kernel = model.network.config._attn_implementation
        if kernel not in _READABLE:
            raise RefusedModel(
                IDENTITY, f"attention '{kernel}' takes no mask of single positions.", "Load the model with `sdpa`."
            )
        self.length = tokens.shape[1]
        self._index = torch.cat([torch.arange(self.length, device=positions.device), positions])
        self._blocks = model.anatomy.blocks
        self._given = block_arguments(model, tokens)
        self._shorter = block_arguments(model, tokens[:, : self.length - 1])
        self._dtype = model.dtype
        self._extended: dict[int, tuple[Tensor, tuple[int, ...]]] = {}  # by tensor: most are shared by all layers
        self._causal: Tensor | None = None

    def arguments(self, layer: int, stream: Tensor) -> Arguments:
        """A block's arguments.

        Args:
            layer: the layer.
            stream: its input, the window's positions and the first of the copies [1, position + copy, width].
        """
        size, given, shorter = stream.shape[1], self._given[layer], self._shorter[layer]
        hidden = main_argument(given)

        def extended(value: Any, less: Any) -> Any:
            if value is hidden:
                return value
            if isinstance(value, tuple | list):
                others = less if isinstance(less, tuple | list) else [None] * len(value)
                return type(value)([extended(part, other) for part, other in zip(value, others, strict=True)])
            return self._extend(value, less, size) if isinstance(value, Tensor) else value

        args = tuple(extended(value, less) for value, less in zip(given[0], shorter[0], strict=True))
        kwargs = {name: extended(value, shorter[1].get(name)) for name, value in given[1].items()}
        given = (args, kwargs)
        block = self._blocks[layer]
        return with_input(self._masked(block.module, given, size) if block.heads else given, stream)

    def _extend(self, value: Tensor, less: Any, size: int) -> Tensor:
        """A tensor with rows for the copies, along every axis that has one for each position."""
        if id(value) not in self._extended:
            axes = _position_axes(value, less, self.length)
            longer = value
            for axis in axes:
                longer = longer.index_select(axis, self._index)
            if axes == (value.ndim - 2, value.ndim - 1):
                longer = self._apart(longer)
            self._extended[id(value)] = longer, axes
        longer, axes = self._extended[id(value)]
        for axis in axes:
            longer = longer.narrow(axis, 0, size)
        return longer

    def _masked(self, module: nn.Module, given: Arguments, size: int) -> Arguments:
        """The same arguments with a mask, where the block got none because its kernel is causal by itself."""
        bound = inspect.signature(module.forward).bind(*given[0], **given[1])
        if bound.arguments.get(_MASK) is not None:
            return given
        if _MASK not in inspect.signature(module.forward).parameters:
            raise RefusedModel(IDENTITY, f"{type(module).__name__} takes no argument `{_MASK}`.")
        if self._causal is None:
            allowed = torch.ones(self.length, self.length, dtype=torch.bool, device=self._index.device).tril()
            rows = allowed[None, None].index_select(2, self._index).index_select(3, self._index)
            blocked = torch.finfo(self._dtype).min
            self._causal = torch.zeros(rows.shape, dtype=self._dtype, device=rows.device)
            self._causal = self._apart(self._causal.masked_fill(~rows, blocked))
        bound.arguments[_MASK] = self._causal[..., :size, :size]
        return bound.args, bound.kwargs

    def _apart(self, mask: Tensor) -> Tensor:
        """A mask [..., query, source] in which copies see the positions before their own and themselves, and are seen
        by nothing else."""
        number, device = len(self._index), mask.device
        copies = torch.arange(self.length, number, device=device)
        seen = torch.ones(number, number, dtype=torch.bool, device=device)
        seen[:, self.length :] = False
        seen[copies, copies] = True
        seen[copies, self._index[self.length :]] = False
        blocked = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
        return mask.masked_fill(~seen, blocked)


def _position_axes(value: Tensor, less: Any, length: int) -> tuple[int, ...]:
    """Axes of a tensor that have an entry for each position: those that are shorter for a shorter text."""
    if not isinstance(less, Tensor) or less.ndim != value.ndim:  # a mask that a shorter text does not need
        return tuple(axis for axis in range(value.ndim - 2, value.ndim) if value.shape[axis] == length)
    sizes = zip(value.shape, less.shape, strict=True)
    return tuple(axis for axis, pair in enumerate(sizes) if pair == (length, length - 1))
