"""Blocks run by themselves, from any layer up, as the model's own trunk would run them."""

from __future__ import annotations

from torch import Tensor

from selfrepair.model.arguments import block_arguments
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.taps import first_tensor, with_input


class BlockRun:
    """A model's blocks with the arguments that its own trunk gives them for some texts.

    Arguments are good for one use, because blocks may change what they are given (caches): a block runs once. Put
    hooks into place after this is made, which takes a forward. Call under `model.running()`.

    Args:
        model: the model.
        tokens: [window, position], repeated where several runs of the same windows share a batch.
    """

    def __init__(self, model: LanguageModel, tokens: Tensor) -> None:
        self._blocks = model.anatomy.blocks
        self._arguments = block_arguments(model, tokens)

    def __call__(self, stream: Tensor, first: int, last: int | None = None) -> Tensor:
        """Runs blocks under whatever hooks are in place.

        Args:
            stream: input of the lowest of them [window, position, width].
            first: the lowest layer.
            last: the layer that no longer runs; all from `first` up by default.

        Returns:
            The stream after the last of them, of the same shape.
        """
        hidden = stream
        for block, given in zip(self._blocks[first:last], self._arguments[first:last], strict=True):
            args, kwargs = with_input(given, hidden)
            hidden = first_tensor(block.module(*args, **kwargs))
        return hidden.reshape(stream.shape)
