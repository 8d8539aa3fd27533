"""The arguments blocks get in a real forward (masks, rotary tables, ALiBi), for any number of windows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from selfrepair.model.anatomy import Block
from selfrepair.model.dissect import capture
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.taps import Arguments, main_input


class BlockArguments:
    """Captured arguments of every block, by shape of the batch.

    A mask of one's own making is a trap (under eager attention a missing mask is not causal), and which axis
    of a captured tensor counts windows cannot be told for sure (ALiBi counts windows times heads). So for every
    shape the model's own trunk is run, with blocks that hand their input on, and makes the arguments itself.
    """

    def __init__(self) -> None:
        self._captured: WeakKeyDictionary[nn.Module, dict[tuple[int, int], list[Arguments]]] = WeakKeyDictionary()

    def of(self, model: LanguageModel, windows: int, positions: int) -> list[Arguments]:
        """Per layer, the arguments for a batch of that shape; their hidden states are placeholders."""
        shape = (windows, positions)
        captured = self._captured.setdefault(model.network, {})
        if shape not in captured:
            blocks = model.anatomy.blocks
            tokens = torch.zeros(shape, dtype=torch.long, device=model.device)
            with _handing_on(blocks):
                modules = [block.module for block in blocks]
                captured[shape] = capture(model.anatomy.trunk, modules, tokens)
        return captured[shape]


@contextmanager
def _handing_on(blocks: tuple[Block, ...]) -> Iterator[None]:
    """Blocks that return their input, for as long as this lasts."""
    with ExitStack() as stack:
        for block in blocks:
            stack.callback(_restore, block.module, vars(block.module).get("forward"))
            block.module.forward = partial(_hand_on, block.returns_tuple)
        yield


def _hand_on(returns_tuple: bool, *args: Any, **kwargs: Any) -> Tensor | tuple[Tensor, None]:
    hidden = main_input((args, kwargs))
    return (hidden, None) if returns_tuple else hidden


def _restore(module: nn.Module, forward: Any) -> None:
    if forward is None:
        del module.forward  # the class's own is used again
    else:
        module.forward = forward
