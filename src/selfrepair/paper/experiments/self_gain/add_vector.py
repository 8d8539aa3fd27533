"""Adds a vector to the stream in front of a block, at one position at a time, and reads heads and the final scale."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from selfrepair.engine.clean import CleanRun
from selfrepair.errors import SelfRepairError
from selfrepair.model.block_run import BlockRun
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.taps import removing
from selfrepair.paper.experiments.self_gain.all_positions import RowAttention, row_attention


class _Enough(Exception):
    """Ends a block's forward once its heads' outputs are known."""


@dataclass(frozen=True)
class Added:
    """Results of added vectors; row p belongs to the run in which only position p was changed.

    Attributes:
        outputs: the layer's head outputs [copy, window, position, head, head_dim], value constants left out.
        sigma: the final norm's scale at each position, [copy, window, position]; None if blocks above did not run.
    """

    outputs: Tensor
    sigma: Tensor | None


@dataclass
class Adder:
    """Adds vectors in front of a block, at all positions in one pass if the family allows it.

    Attributes:
        model: the model.
        single: run position by position anyway: slow, and obviously right.
    """

    model: LanguageModel
    single: bool = False

    def add(self, clean: CleanRun, layer: int, vectors: Tensor, to_the_end: bool = False) -> Added:
        """Adds vectors.

        Args:
            clean: the clean run.
            layer: the block in front of which to add.
            vectors: the vector to add at each position, [copy, window, position, width].
            to_the_end: whether to run the blocks above as well, for the final scale.
        """
        if self.single:
            return self._singly(clean, layer, vectors, to_the_end)
        copies, windows, positions, _ = vectors.shape
        hidden = (clean.residuals[layer] + vectors).flatten(0, 1)
        # both before attention is replaced: masks are made for the model's own attention function
        clean_run, run = (BlockRun(self.model, clean.tokens.repeat(fold, 1)) for fold in (1, copies))
        block = self.model.anatomy.blocks[layer]
        with row_attention(self.model) as attention:
            last = self.model.anatomy.layers if to_the_end else layer + 1
            self._record(clean, clean_run, range(layer, last), attention)
            attention.recording = False
            outputs, final = self._run(run, hidden, layer, last, not to_the_end)
        shape = (copies, windows, positions)
        heads = block.heads_place.split(outputs).reshape(*shape, block.heads, block.head_dim)
        sigma = self.model.anatomy.final_norm.scale(final).reshape(shape) if to_the_end else None
        return Added(heads, sigma)

    def _record(self, clean: CleanRun, run: BlockRun, layers: range, attention: RowAttention) -> None:
        """Clean keys and values of the blocks that will run."""
        for layer in layers:
            self._run(run, clean.residuals[layer], layer, layer + 1, True)
        if not attention.called:
            raise SelfRepairError(
                f"{type(self.model.network).__name__} does not use Hugging Face's registry of attention functions.",
                "Heads of this family are run position by position: Adder(model, single=True).",
            )

    def _run(self, run: BlockRun, stream: Tensor, first: int, last: int, stop: bool) -> tuple[Tensor, Tensor]:
        """The first block's projection input, and the stream after the last, which is not reached with `stop`."""
        kept: list[Tensor] = []

        def keep(value: Tensor) -> None:
            if not kept:
                kept.append(value.reshape(*stream.shape[:2], -1).clone())
            if stop:
                raise _Enough

        final = stream
        with removing(self.model.anatomy.blocks[first].heads_place.tap(keep)), suppress(_Enough):
            final = run(stream, first, last)
        return kept[0], final

    def _singly(self, clean: CleanRun, layer: int, vectors: Tensor, to_the_end: bool) -> Added:
        """A separate run for every position."""
        copies, windows, positions, _ = vectors.shape
        block = self.model.anatomy.blocks[layer]
        last = self.model.anatomy.layers if to_the_end else layer + 1
        outputs = vectors.new_zeros(copies, windows, positions, block.heads, block.head_dim)
        sigma = vectors.new_zeros(copies, windows, positions) if to_the_end else None
        for position in range(positions):
            hidden = clean.residuals[layer].repeat(copies, 1, 1, 1)
            hidden[:, :, position] += vectors[:, :, position]
            run = BlockRun(self.model, clean.tokens.repeat(copies, 1))
            inputs, final = self._run(run, hidden.flatten(0, 1), layer, last, not to_the_end)
            outputs[:, :, position] = block.heads_place.split(inputs[:, position]).reshape(
                copies, windows, block.heads, -1
            )
            if sigma is not None:
                sigma[:, :, position] = self.model.anatomy.final_norm.scale(final[:, position]).reshape(copies, windows)
        return Added(outputs, sigma)


def adder_for(model: LanguageModel, tokens: Tensor, allowed: float | None = None) -> Adder:
    """The fast adder if it agrees with single runs on these tokens, else the slow one.

    Args:
        model: the model.
        tokens: [window, position], on which both are compared in the first and the last block.
        allowed: largest relative difference; by default what rounding can explain.
    """
    from selfrepair.engine.clean import clean_run

    tolerance = allowed if allowed is not None else (1e-8 if model.dtype == torch.float64 else 1e-3)
    fast, slow = Adder(model), Adder(model, single=True)
    with model.running():
        clean = clean_run(model, tokens)
        generator = torch.Generator().manual_seed(0)
        for layer in sorted({0, model.anatomy.layers // 2, model.anatomy.layers - 1}):
            stream = clean.residuals[layer]
            noise = torch.randn(stream.shape, generator=generator).to(stream) * stream.std()
            try:
                quick, sure = (adder.add(clean, layer, noise[None], True) for adder in (fast, slow))
            except SelfRepairError:
                return slow
            assert quick.sigma is not None and sure.sigma is not None
            pairs = ((quick.outputs, sure.outputs), (quick.sigma, sure.sigma))
            if any(not bool((a - b).abs().max() <= tolerance * b.abs().max()) for a, b in pairs):
                return slow
    return fast
