"""Shapes of well-known models, filled with random weights: speed does not depend on what the weights are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import nn


class Weights(StrEnum):
    """How random weights are drawn."""

    plain = "plain"
    """As Hugging Face initialises them: biases zero, attention almost uniform."""
    lively = "lively"
    """On the scale 1/sqrt(fan-in), with random biases and gains: attention chooses, heads and MLPs matter."""


@dataclass(frozen=True)
class Shape:
    """The sizes that decide what a model costs.

    Attributes:
        family: `gpt2`, `neox` or `llama`, as Hugging Face writes them.
        hidden: width of the MLP's inner layer.
        key_heads: heads of keys and values, fewer than `heads` in grouped-query attention.
        tied: whether the unembedding is the embedding.
    """

    name: str
    family: str
    layers: int
    heads: int
    head_dim: int
    width: int
    hidden: int
    vocabulary: int
    key_heads: int
    tied: bool

    @property
    def parallel(self) -> bool:
        """Whether the MLP reads the block's input rather than attention's result."""
        return self.family == "neox"

    @property
    def attention_parameters(self) -> int:
        """Weights of queries, keys, values and the output projection of one block."""
        return 2 * self.width * self.head_dim * (self.heads + self.key_heads)

    @property
    def mlp_parameters(self) -> int:
        """Weights of one block's MLP; a gated one has three matrices."""
        return (3 if self.family == "llama" else 2) * self.width * self.hidden


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("gpt2-small", "gpt2", 12, 12, 64, 768, 3072, 50257, 12, tied=True),
        Shape("smollm2-135m", "llama", 30, 9, 64, 576, 1536, 49152, 3, tied=True),
        Shape("pythia-160m", "neox", 12, 12, 64, 768, 3072, 50304, 12, tied=False),
        Shape("pythia-1b", "neox", 16, 8, 256, 2048, 8192, 50304, 8, tied=False),
        Shape("tiny", "gpt2", 3, 4, 16, 64, 256, 97, 4, tied=True),
        Shape("tiny-llama", "llama", 3, 4, 16, 64, 96, 97, 2, tied=True),
        Shape("tiny-neox", "neox", 3, 4, 16, 64, 256, 97, 4, tied=False),
    )
}


def random_network(shape: Shape, positions: int, weights: Weights, seed: int) -> Any:
    """A Hugging Face model of that shape in float32 with random weights, the same for the same seed."""
    torch.manual_seed(seed)
    network = build(shape, positions).float().eval()
    if weights is Weights.lively:
        _enliven(network)
    return network.requires_grad_(False)


def build(shape: Shape, positions: int) -> Any:
    """A Hugging Face model of that shape, as the library initialises it."""
    import transformers as hf

    common = {"vocab_size": shape.vocabulary, "bos_token_id": 0, "eos_token_id": 0, "tie_word_embeddings": shape.tied}
    if shape.family == "gpt2":
        sizes = {"n_embd": shape.width, "n_inner": shape.hidden, "n_layer": shape.layers, "n_head": shape.heads}
        return hf.GPT2LMHeadModel(hf.GPT2Config(n_positions=max(1024, positions), **sizes, **common))
    common |= {
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.hidden,
        "max_position_embeddings": max(2048, positions),
    }
    if shape.family == "neox":
        return hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(use_parallel_residual=True, **common))
    return hf.LlamaForCausalLM(hf.LlamaConfig(num_key_value_heads=shape.key_heads, head_dim=shape.head_dim, **common))


def _enliven(network: nn.Module) -> None:
    embeddings = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
    embeddings.add(id(network.get_output_embeddings().weight))  # type: ignore[operator]
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            normal = torch.randn_like(parameter)
            if id(parameter) in embeddings:
                value = 0.1 * normal
            elif parameter.dim() == 2:
                fan_in = parameter.shape[0] if type(module).__name__ == "Conv1D" else parameter.shape[1]
                value = normal / fan_in**0.5
            else:
                value = 0.1 * normal + (1.0 if name == "weight" else 0.0)
            parameter.data.copy_(value)
