"""A loaded model with its tokenizer, its parts and its name: the input of every engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from selfrepair.model.anatomy import Anatomy
from selfrepair.model.constants import logits_without_constants
from selfrepair.model.neurons import Neurons, find_neurons
from selfrepair.model.precision import require_running, running
from selfrepair.model.vocabulary_rows import vocabulary_rows
from selfrepair.terminal import plain

Source = dict[str, str | bool | None]
"""Arguments of `load`."""


@dataclass(frozen=True)
class LanguageModel:
    """A Hugging Face causal language model made ready for measurement.

    Example:
        >>> model.anatomy.layers, model.dtype
        (2, torch.float32)

    Attributes:
        name: name in results.
        network: the Hugging Face model, in eval mode, untouched.
        tokenizer: its tokenizer, or None where windows are given as token ids.
        anatomy: its parts.
        digest: identity of its weights.
        source: the arguments of `load` that give this model again, or None where it came as an object.
        offloaded: whether weights are on disk, and in memory only while their block runs.
        weights: which weights are measured: `bfloat16 on file, measured in float32`.
    """

    name: str
    network: Any
    tokenizer: Any
    anatomy: Anatomy
    digest: str
    source: Source | None = None
    offloaded: bool = False
    weights: str = ""
    _neurons: dict[int, Neurons] = field(default_factory=dict, repr=False, compare=False)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of all computations."""
        return self.anatomy.unembedding.weight.dtype

    @property
    def device(self) -> torch.device:
        """Device of the token embedding: tokens go there."""
        device: torch.device = self.network.get_input_embeddings().weight.device
        return device

    @property
    def vocabulary(self) -> dict[str, int | None]:
        """Rows of the unembedding by what they are, see `model.vocabulary_rows`."""
        unembedding = self.anatomy.unembedding
        return vocabulary_rows(len(unembedding.weight), len(unembedding.counted), self.tokenizer)

    def neurons(self, layer: int) -> Neurons:
        """The neurons of a layer's MLP; found once.

        Raises:
            SelfRepairError: the MLP has no single layer of neurons, as in a mixture of experts.
        """
        if layer not in self._neurons:
            self._neurons[layer] = find_neurons(self.network, self.anatomy, layer)
        return self._neurons[layer]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inference at the model's own precision throughout."""
        with running(self.dtype):
            yield

    def require_running(self, what: str) -> None:
        """Refuses to go on outside `running`.

        Args:
            what: name of the function that was called, such as `sweep`.

        Raises:
            SelfRepairError: names where to call it.
        """
        require_running(self.dtype, what)

    def run_trunk(self, tokens: Tensor) -> None:
        """A forward from embeddings to final norm, for what taps see of it. `tokens`: [window, position]."""
        self.anatomy.trunk(tokens, use_cache=False)

    def logits(self, tokens: Tensor, constants: bool = True) -> Tensor:
        """The model's own logits before any cap, [window, position, vocabulary].

        Args:
            tokens: [window, position].
            constants: whether to add the constants of final norm and unembedding; no effect depends on them,
                and large ones swamp all effects (see `model.constants`).
        """
        if constants:
            logits: Tensor = self.network(tokens, use_cache=False).logits
        else:
            logits = logits_without_constants(self.network, self.anatomy.final_norm_module, tokens)
        return self.anatomy.unembedding.uncapped(logits)

    def __repr__(self) -> str:
        anatomy = self.anatomy
        dtype = str(self.dtype).removeprefix("torch.")
        return f"LanguageModel({plain(self.name)}: {anatomy.layers} layers x {anatomy.heads_in_words} heads, {dtype})"
