"""One ablated run with what the ledger does not keep: final streams, every write as a vector, neurons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from selfrepair.engine.clean import CleanRun
from selfrepair.model.arguments import block_arguments
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.taps import first_tensor, keeping, on_input, on_output, removing, with_input


@dataclass(frozen=True)
class Replayed:
    """Blocks from one layer up, on the clean stream below it.

    Attributes:
        final: the stream after the last block [window, position, width].
        attention: by layer, what attention added to the stream [window, position, width].
        mlp: by layer, what the MLP added.
        neurons: by layer, inputs of the MLP's last linear map [window, position, neuron], where asked for.
        heads: by layer, head outputs [window, position, head, head_dim].
    """

    final: Tensor
    attention: dict[int, Tensor]
    mlp: dict[int, Tensor]
    neurons: dict[int, Tensor]
    heads: dict[int, Tensor]


@dataclass
class Replayer:
    """Runs blocks with Hugging Face's own code and the arguments that the model's own trunk makes."""

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
            in_place: by (layer, head), outputs to put in place [window, position, head_dim], value constants left
                out; nothing for the clean run itself.
            neurons: by layer, the linear map whose input to keep.
            stream: the input of block `layer`; the clean one by default.
            keep_heads: layers whose head outputs to keep.
        """
        windows, positions = clean.tokens.shape
        shape = (windows, positions, -1)
        blocks = self.model.anatomy.blocks
        attention: dict[int, Tensor] = {}
        mlp: dict[int, Tensor] = {}
        inner: dict[int, Tensor] = {}
        inputs: dict[int, Tensor] = {}
        handles: list[Any] = []
        for one in range(layer, len(blocks)):
            changes = {head: value for (at, head), value in (in_place or {}).items() if at == one}
            if changes:
                handles.append(on_input(blocks[one].projection, _putting(changes, blocks[one], shape)))
            if one in keep_heads:
                handles.append(on_input(blocks[one].projection, keeping(inputs, one, shape)))
            handles.append(on_output(blocks[one].attention_write, keeping(attention, one, shape)))
            handles.append(on_output(blocks[one].mlp_write, keeping(mlp, one, shape)))
            if neurons and one in neurons:
                handles.append(on_input(neurons[one], keeping(inner, one, shape)))
        hidden = clean.residuals[layer] if stream is None else stream
        arguments = block_arguments(self.model, clean.tokens)
        with removing(*handles):
            for block, given in zip(blocks[layer:], arguments[layer:], strict=True):
                args, kwargs = with_input(given, hidden)
                hidden = first_tensor(block.module(*args, **kwargs)).reshape(hidden.shape)
        return Replayed(
            hidden,
            {one: blocks[one].attention_multiplier * write for one, write in attention.items()},
            {one: blocks[one].mlp_multiplier * write for one, write in mlp.items()},
            inner,
            {one: blocks[one].split_heads(value) for one, value in inputs.items()},
        )


def _putting(changes: dict[int, Tensor], block: Any, shape: tuple[int, int, int]) -> Any:
    """A hook that overwrites some heads' slices of the projection's input."""

    def put(value: Tensor) -> Tensor:
        outputs = value.reshape(shape).reshape(*shape[:2], *block.value_constant.shape).clone()
        for head, output in changes.items():
            outputs[:, :, head] = output + block.value_constant[head]
        return outputs.reshape(value.shape)

    return put


def at_predictions(stream: Tensor) -> Tensor:
    """Positions that predict something: all but the last."""
    return stream[:, :-1]


def stacked(tensors: Sequence[Tensor], like: Tensor) -> Tensor:
    """Sum of writes; zeros like `like` where there are none."""
    return torch.stack(list(tensors)).sum(0) if tensors else torch.zeros_like(like)
