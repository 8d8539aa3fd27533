"""Blocks run from any layer up, as the model's own trunk would run them."""

from __future__ import annotations

from contextlib import suppress

from torch import Tensor

from selfrepair.model.arguments import block_arguments
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.taps import first_tensor, on_input, on_output, removing, with_input


class _Reached(Exception):
    """Ends a forward of the trunk behind the last block that was asked for."""


class BlockRun:
    """A model's blocks with the arguments that its own trunk gives them for some texts.

    Arguments are good for one use, because blocks may change what they are given (caches): a block runs once. Put
    hooks into place after this is made, which takes a forward. Call under `model.running()`.

    Blocks that cannot run alone (`Anatomy.alone`) are run by the trunk, from the first one: so they find what lower
    ones, which run on the clean text, left for them. Hooks on lower blocks would act in them too.

    Args:
        model: the model.
        tokens: [window, position], repeated where several runs of the same windows share a batch.
    """

    def __init__(self, model: LanguageModel, tokens: Tensor) -> None:
        self._model, self._tokens = model, tokens
        self._blocks = model.anatomy.blocks
        self._arguments = block_arguments(model, tokens) if model.anatomy.alone else []

    def __call__(self, stream: Tensor, first: int, last: int | None = None) -> Tensor:
        """Runs blocks under whatever hooks are in place.

        Args:
            stream: input of the lowest of them [window, position, width].
            first: the lowest layer.
            last: the layer that no longer runs; all from `first` up by default.

        Returns:
            The stream after the last of them, of the same shape.
        """
        if not self._model.anatomy.alone:
            return self._by_trunk(stream, first, last)
        hidden = stream
        for block, given in zip(self._blocks[first:last], self._arguments[first:last], strict=True):
            args, kwargs = with_input(given, hidden)
            hidden = first_tensor(block.module(*args, **kwargs))
        return hidden.reshape(stream.shape)

    def _by_trunk(self, stream: Tensor, first: int, last: int | None) -> Tensor:
        """The same in a forward of the trunk, in which block `first` reads the given stream."""
        blocks = self._blocks[first:last]
        if not blocks:
            return stream
        left: list[Tensor] = []

        def end(value: Tensor) -> None:
            left.append(value)
            raise _Reached

        taps = [on_input(blocks[0].module, stream.reshape_as), on_output(blocks[-1].module, end)]
        with removing(*taps), suppress(_Reached):
            self._model.run_trunk(self._tokens)
        return left[0].reshape(stream.shape)
