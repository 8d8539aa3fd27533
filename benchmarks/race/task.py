"""The task every contestant is given: the same weights, tokens, heads and replacements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from race.shapes import SHAPES, Weights, random_network
from selfrepair import load
from selfrepair.ablation.sites import Head
from selfrepair.engine.clean import head_outputs
from selfrepair.model.language_model import LanguageModel

GOLDEN = 0.618  # its multiples, less their whole part, never fall into a pattern


@dataclass(frozen=True)
class Order:
    """What is asked for; small enough to be sent to another process, which makes the task from it."""

    shape: str
    windows: int = 4
    length: int = 128
    heads: int | None = None
    weights: Weights = Weights.plain
    threads: int | None = None
    device: str = "cpu"
    seed: int = 0

    def units(self) -> list[Head]:
        """The heads to ablate: all, or so many, spread over the layers."""
        shape = SHAPES[self.shape]
        everything = [Head(layer, head) for layer in range(shape.layers) for head in range(shape.heads)]
        return everything if self.heads is None else spread(everything, self.heads)

    def task(self) -> Task:
        """The task, on the order's device, with torch set to the order's threads."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        network = random_network(SHAPES[self.shape], self.length, self.weights, self.seed).to(self.device)
        draws = torch.Generator().manual_seed(self.seed + 1)
        tokens, donors = torch.randint(
            SHAPES[self.shape].vocabulary, (2, self.windows, self.length), generator=draws
        ).to(self.device)
        model = load(network)
        with model.running():
            outputs = head_outputs(model, donors)
        constants = [block.value_constant for block in model.anatomy.blocks]
        donated = tuple(value + constant for value, constant in zip(outputs, constants, strict=True))
        return Task(network, model, tokens, donated, tuple(self.units()))


@dataclass(frozen=True)
class Task:
    """Ablate each head in turn and say what that did to the logit of every next token.

    A head is ablated by putting its output on other text (`donated`) in its place at all positions: activation
    patching, the one operator that all contestants have. Effects are of the target's logit less the mean over the
    vocabulary, ablated minus clean.

    Attributes:
        network: the Hugging Face model, float32; a contestant that changes it takes a copy.
        model: the same, with its parts.
        tokens: [window, position].
        donated: per layer, what the output projection reads on the donors, [window, position, head, head_dim].
        units: the heads.
    """

    network: Any
    model: LanguageModel
    tokens: Tensor
    donated: tuple[Tensor, ...]
    units: tuple[Head, ...]

    def projection_name(self, layer: int) -> str:
        """Path of a layer's attention output projection within the network."""
        projection = self.model.anatomy.blocks[layer].projection
        return next(name for name, module in self.network.named_modules() if module is projection)

    def patched(self, projection_input: Tensor, unit: Head) -> Tensor:
        """The projection's input with one head's slice replaced."""
        outputs = self.donated[unit.layer][:, :, unit.head]
        start = unit.head * outputs.shape[-1]
        changed = projection_input.clone()
        changed[..., start : start + outputs.shape[-1]] = outputs
        return changed

    def target_logits(self, logits: Tensor) -> Tensor:
        """Centred logit of each next token, [window, position - 1], from logits [window, position, vocabulary]."""
        targets = self.tokens[:, 1:].unsqueeze(-1)
        return logits[:, :-1].gather(-1, targets).squeeze(-1) - logits[:, :-1].mean(-1)


def spread(units: list[Head], number: int) -> list[Head]:
    """So many of the units, one from each of as many equal stretches, each time elsewhere in it; in their own order."""
    if number >= len(units):
        return units
    step = len(units) / number
    return [units[int((index + GOLDEN * index % 1) * step)] for index in range(number)]
