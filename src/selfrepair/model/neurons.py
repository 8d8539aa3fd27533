"""The neurons of a block's MLP: found by what its linear maps do, and proved on random tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from selfrepair.errors import SelfRepairError
from selfrepair.model.anatomy import Anatomy
from selfrepair.model.dissect import longest, probe_tokens
from selfrepair.model.norms import Norm, read_norm
from selfrepair.model.precision import running
from selfrepair.model.taps import keeping, on_input, on_output, removing

_WINDOWS, _POSITIONS = 2, 12  # of the random text on which maps are compared


@dataclass(frozen=True)
class Neurons:
    """The last linear map of an MLP: what goes into it are the neurons.

    Attributes:
        layer: layer of the block.
        module: the map; its input is each neuron's activation (of a gated MLP `act(gate) * up`).
        weight: W_out, what each neuron writes per unit of activation [neuron, width].
        norm: the norm that the MLP's write passes through, where there is one (Gemma 2, OLMo 2).
        multiplier: the factor of the MLP's write.
    """

    layer: int
    module: nn.Module
    weight: Tensor
    norm: Norm | None
    multiplier: float

    def worth(self, direction: Tensor, output: Tensor) -> Tensor:
        """What a unit of each neuron's activation is worth in logits, at clean scales: `(u / sigma) . W_out`.

        Args:
            direction: what a write to the stream is worth, `u / sigma` [..., width].
            output: the map's own clean output at the same predictions [..., width]; a post-norm's scale comes from it.

        Returns:
            [..., neuron].
        """
        direction = self.multiplier * direction
        if self.norm is not None:
            direction = self.norm.fold(direction) / self.norm.scale(output).unsqueeze(-1)
        return direction @ self.weight.T

    def output(self, activations: Tensor) -> Tensor:
        """The map's own output from its input, bias and all."""
        output: Tensor = self.module(activations.contiguous())  # some maps take no other layout
        return output


def find_neurons(network: Any, anatomy: Anatomy, layer: int) -> Neurons:
    """The neurons of one layer's MLP.

    Args:
        network: the Hugging Face model.
        anatomy: its parts.
        layer: layer of the block.

    Raises:
        SelfRepairError: no linear map of the block gives the MLP's write, as in a mixture of experts.
    """
    block, dtype = anatomy.blocks[layer], anatomy.unembedding.weight.dtype
    if not block.mlps:
        raise SelfRepairError(f"Layer {layer} has no MLP, and no neurons.", "Look at another layer.")
    tokens = probe_tokens(network, longest(network, _POSITIONS), _WINDOWS)
    shape = (*tokens.shape, -1)
    maps = [
        module for module in block.module.modules() if _weight(module) is not None and module is not block.projection
    ]
    inputs: dict[int, Tensor] = {}
    outputs: dict[int, Tensor] = {}
    written: dict[str, Tensor] = {}
    with running(dtype):
        handles = [on_output(block.mlp_write, keeping(written, "write", shape))]
        for number, module in enumerate(maps):
            handles += [on_input(module, keeping(inputs, number)), on_output(module, keeping(outputs, number))]
        with removing(*handles):
            anatomy.trunk(tokens, use_cache=False)
        norm = None
        if block.mlp_write not in maps:
            norm = (
                read_norm(block.mlp_write, anatomy.width, dtype, tokens.device) if _is_leaf(block.mlp_write) else None
            )
        for number, module in enumerate(maps):
            if number not in outputs or outputs[number].numel() != written["write"].numel():
                continue
            output = outputs[number].reshape(written["write"].shape)
            after = output if norm is None else norm(output)
            if _same(after, written["write"], dtype):
                weight = _oriented(module, inputs[number], outputs[number], dtype)
                if weight is not None:
                    return Neurons(layer, module, weight, norm, block.mlp_multiplier)
    raise SelfRepairError(
        f"The MLP of layer {layer} has no single layer of neurons: no linear map of it gives what it writes "
        "(a mixture of experts has many).",
        "Leave neurons out for this model, or look at another layer.",
    )


def _weight(module: nn.Module) -> Tensor | None:
    weight = getattr(module, "weight", None)
    return weight if isinstance(weight, Tensor) and weight.ndim == 2 and not isinstance(module, nn.Embedding) else None


def _is_leaf(module: nn.Module) -> bool:
    return not list(module.children()) and any(True for _ in module.parameters())


def _same(first: Tensor, other: Tensor, dtype: torch.dtype) -> bool:
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    return bool((first - other).abs().max() <= tolerance * other.abs().max().clamp_min(1e-30))


def _oriented(module: nn.Module, given: Tensor, output: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The weight as [in, out], whichever way it is stored: found by multiplying."""
    weight = _weight(module)
    assert weight is not None
    bias = getattr(module, "bias", None)
    for candidate in (weight.detach().T, weight.detach()):
        if candidate.shape == (given.shape[-1], output.shape[-1]):
            product = given @ candidate
            if _same(product if bias is None else product + bias, output, dtype):
                return candidate
    return None
