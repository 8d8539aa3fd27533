"""One ablated run with what the ledger does not keep: final streams, every write as a vector, neurons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from selfrepair.engine.clean import CleanRun
from selfrepair.model.block_run import BlockRun
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.taps import Place, keeping, on_input, on_output, removing


@dataclass(frozen=True)
class Replayed:
    """Blocks from one layer up, on the clean stream below it.

    Attributes:
        final: the stream after the last block [window, position, width].
        attention: attention's write to the stream [window, position, width], by layer.
        mlp: the MLP's write, by layer.
        neurons: inputs of the MLP's last linear map [window, position, neuron], by layer, if asked for.
        heads: head outputs [window, position, head, head_dim], by layer.
    """

    final: Tensor
    attention: dict[int, Tensor]
    mlp: dict[int, Tensor]
    neurons: dict[int, Tensor]
    heads: dict[int, Tensor]


@dataclass
class Replayer:
    """Runs blocks with Hugging Face's own code and the arguments that the model's own trunk passes."""

    model: LanguageModel

    def run(
        self,
        clean: CleanRun,
        layer: int,
        in_place: Mapping[tuple[int, int], Tensor] | None = None,
        neurons: Mapping[int, nn.Module] | None = None,
        stream: Tensor | None = None,
        keep_heads: Sequence[int] = (),
    ) -> Replayed:
        """The blocks from `layer` up.

        Args:
            clean: the clean run of the windows.
            layer: the lowest block that runs.
            in_place: replacement outputs [window, position, head_dim] by (layer, head), value constants left out;
                none for the clean run itself.
            neurons: the linear map whose input to keep, by layer.
            stream: the input of block `layer`; the clean one by default.
            keep_heads: layers whose head outputs to keep.
        """
        blocks, shape = self.model.anatomy.blocks, (*clean.tokens.shape, -1)
        run = BlockRun(self.model, clean.tokens)
        attention: dict[int, Tensor] = {}
        mlp: dict[int, Tensor] = {}
        inner: dict[int, Tensor] = {}
        heads: dict[int, Tensor] = {}
        handles: list[Any] = []
        for above in range(layer, len(blocks)):
            block = blocks[above]
            put = {head: value for (at, head), value in (in_place or {}).items() if at == above}
            if put:
                handles.append(block.heads_place.tap(partial(_put, block.heads_place, put, shape)))
            if above in keep_heads:
                handles.append(block.heads_place.tap(keeping(heads, above, shape)))
            handles.append(on_output(block.attention_write, keeping(attention, above, shape)))
            handles.append(on_output(block.mlp_write, keeping(mlp, above, shape)))
            if neurons and above in neurons:
                handles.append(on_input(neurons[above], keeping(inner, above, shape)))
        with removing(*handles):
            final = run(clean.residuals[layer] if stream is None else stream, layer)
        return Replayed(
            final,
            {above: blocks[above].attention_multiplier * write for above, write in attention.items()},
            {above: blocks[above].mlp_multiplier * write for above, write in mlp.items()},
            inner,
            {above: blocks[above].heads_place.split(value) for above, value in heads.items()},
        )


def _put(head_place: Place, outputs: Mapping[int, Tensor], shape: tuple[int, ...], value: Tensor) -> Tensor:
    """The projection's input with some heads' outputs, [window, position, head_dim] each, in their places."""
    return head_place.put(value.reshape(shape), outputs).reshape(value.shape)


def predicting_positions(stream: Tensor) -> Tensor:
    """Positions that predict something: all but the last."""
    return stream[:, :-1]


def stacked(tensors: Sequence[Tensor], like: Tensor) -> Tensor:
    """Sum of writes; zeros like `like` if there are none."""
    return torch.stack(list(tensors)).sum(0) if tensors else torch.zeros_like(like)
