"""A replay that records, at some positions, what every head attends to and the stream that logits are read from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from selfrepair.ablation.interventions import Intervention
from selfrepair.engine.clean import CleanRun, clean_run
from selfrepair.engine.contract import Replacement
from selfrepair.engine.replay import Replay
from selfrepair.model.anatomy import Anatomy, Block
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port
from selfrepair.model.taps import first_tensor, on_input, removing

_ROUNDING = 1e-2  # attention weights of low precision may add up to a little more than 1


@contextmanager
def eager_attention(model: LanguageModel) -> Iterator[None]:
    """The model's plain attention, which returns its weights; fused kernels do not.

    Where the model's attention cannot be changed once it is built (Falcon), it stays what it is.
    """
    network = model.network
    used = network.config._attn_implementation
    if used in (None, "eager") or not network._can_set_attn_implementation():
        yield
        return
    network.set_attn_implementation("eager")
    try:
        yield
    finally:
        network.set_attn_implementation(used)


class WatchedAttention:
    """Attention weights at some positions, by layer: [run, head, recorded position, position].

    Args:
        positions: positions in the windows to record.
    """

    def __init__(self, positions: Sequence[int]) -> None:
        self.positions = list(positions)
        self.weights: dict[int, Tensor] = {}

    def taps(self, anatomy: Anatomy, first: int) -> list[Any]:
        """Hooks on the attention of all layers from `first` on."""
        return [
            module.register_forward_hook(self._reader(layer, block.heads))
            for layer, block in enumerate(anatomy.blocks)
            if layer >= first
            for module in _around(block)
        ]

    def _reader(self, layer: int, heads: int) -> Any:
        def read(_module: nn.Module, _args: Any, output: Any) -> None:
            for value in output if isinstance(output, tuple | list) else ():
                if isinstance(value, Tensor) and _are_weights(value, heads):
                    folded = value.reshape(-1, heads, *value.shape[-2:])
                    self.weights[layer] = folded[:, :, self.positions].float().clone()

        return read


def watched_clean(
    model: LanguageModel, tokens: Tensor, attention: WatchedAttention, ports: Collection[Port] = ()
) -> tuple[CleanRun, Tensor]:
    """The clean run of one window, and the stream that its logits are read from at the watched positions.

    Call under `model.running()` and `eager_attention`.
    """
    final: list[Tensor] = []
    taps = attention.taps(model.anatomy, 0)
    taps.append(on_input(model.anatomy.final_norm_module, lambda value: final.append(value.clone())))
    with removing(*taps):
        clean = clean_run(model, tokens, ports=ports)
    return clean, final[0].reshape(*tokens.shape, -1)[0, attention.positions]


class WatchedReplay(Replay):
    """A replay over one window.

    Attributes:
        attention: attention of the replayed layers.
        final: the stream that logits are read from, [run, place, width].
    """

    def __init__(
        self,
        model: LanguageModel,
        clean: CleanRun,
        start: int,
        interventions: Sequence[Intervention],
        replacement: Replacement,
        positions: Sequence[int],
    ) -> None:
        super().__init__(model, clean, start, interventions, replacement, True)
        self.attention = WatchedAttention(positions)
        self.final = clean.direction

    def taps(self) -> list[Any]:
        """Those of the replay, and on attention."""
        return [*super().taps(), *self.attention.taps(self.anatomy, self.start)]

    def run(self) -> Tensor:
        """See `Replay.run`; keeps the stream at the watched positions."""
        final = super().run()
        self.final = final[:, 0, self.attention.positions]
        return final


def log_probabilities(model: LanguageModel, stream: Tensor) -> Tensor:
    """The model's own next-token log probabilities [..., vocabulary] from the final residual stream [..., width]."""
    unembedding = model.anatomy.unembedding
    logits = unembedding.logits(first_tensor(model.anatomy.final_norm_module(stream)))
    return torch.log_softmax(unembedding.own(logits).float(), -1)


def _around(block: Block) -> list[nn.Module]:
    """The modules of a block that hold its output projection, the block itself left out."""
    return [
        module
        for module in block.module.modules()
        if module is not block.module
        and module is not block.projection
        and any(inner is block.projection for inner in module.modules())
    ]


def _are_weights(value: Tensor, heads: int) -> bool:
    """Whether a tensor can be attention weights [run, head, query, key] (or with the first two folded)."""
    if value.dim() not in (3, 4) or value.shape[-1] != value.shape[-2] or not value.is_floating_point():
        return False
    if value.dim() == 4 and value.shape[1] != heads:
        return False
    if value.shape[0] % heads and value.dim() == 3:
        return False
    return bool((value >= 0).all() and (value.sum(-1) <= 1 + _ROUNDING).all())
