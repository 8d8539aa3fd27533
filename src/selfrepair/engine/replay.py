"""The replay engine: from the ablated layer upwards, with Hugging Face's own blocks, heads folded into the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from selfrepair.ablation.units import Head, by_layer
from selfrepair.effects.ledger import Ledger, norm_repair
from selfrepair.engine.clean import CleanRun, worth
from selfrepair.engine.contract import Replacement, Settings
from selfrepair.engine.fold import Folding, fastest_fold, halving_when_memory_ends
from selfrepair.model.anatomy import Block
from selfrepair.model.arguments import block_arguments
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.taps import first_tensor, on_input, on_output, removing, with_input
from selfrepair.progress import Advance, ignore


@dataclass
class ReplayEngine:
    """Replays the blocks from the ablated one up, on the clean run's residual stream.

    Attributes:
        fold: how many heads share a batch; found by a short probe where not given, and halved where memory ends.
    """

    fold: int | None = None
    name: str = "replay"

    @property
    def exact(self) -> bool:
        """See `selfrepair.engine.contract.Engine`."""
        return True

    @property
    def settings(self) -> Settings:
        """See `selfrepair.engine.contract.Engine`."""
        return {"fold": self.fold}

    def sweep(
        self,
        model: LanguageModel,
        clean: CleanRun,
        units: Sequence[Head],
        replacement: Replacement,
        per_head: bool,
        advance: Advance = ignore,
    ) -> Iterator[Ledger]:
        """See `selfrepair.engine.contract.Engine`."""
        if self.fold is None:
            self.fold = self.probe(model, clean)
        folding = Folding(self.fold)
        for layer, heads in by_layer(units):
            in_place = replacement(layer)
            for chunk in folding.chunks(heads):
                with halving_when_memory_ends(folding, chunk):
                    replay = _Replay(model, clean, layer, chunk, in_place, per_head)
                    yield replay.ledger()
                    advance((model.anatomy.layers - layer) * len(chunk) * len(clean.tokens))
        self.fold = folding.size

    def probe(self, model: LanguageModel, clean: CleanRun) -> int:
        """The fold with the least time per head, by timing the last blocks at several."""
        layer = max(0, model.anatomy.layers - 2)
        outputs = clean.head_outputs[layer]

        def run(fold: int) -> None:
            heads = tuple(range(fold))
            _Replay(model, clean, layer, heads, outputs, False).ledger()

        return fastest_fold(run, most=model.anatomy.blocks[layer].heads)


class _Replay:
    """One replay: some heads of one layer, each ablated in its own copy of the batch."""

    def __init__(
        self,
        model: LanguageModel,
        clean: CleanRun,
        layer: int,
        heads: tuple[int, ...],
        in_place: Tensor,
        per_head: bool,
    ) -> None:
        windows, positions = clean.tokens.shape
        self.anatomy, self.clean, self.layer, self.heads, self.in_place = (
            model.anatomy,
            clean,
            layer,
            heads,
            in_place,
        )
        self.arguments = block_arguments(model, clean.tokens.repeat(len(heads), 1))
        lines = (len(heads), windows, positions - 1)
        layers = self.anatomy.layers
        zeros = clean.scaled_logit.new_zeros
        self.by_attention, self.by_mlp = zeros(*lines, layers), zeros(*lines, layers)
        self.by_head = zeros(*lines, layers, self.anatomy.heads) if per_head else None
        self.post_norms = zeros(lines)

    def ledger(self) -> Ledger:
        clean, layer, heads = self.clean, self.layer, list(self.heads)
        before = clean.direct_effects(layer)[..., heads].movedim(-1, 0)
        after = clean.direct_effects(layer, self.in_place)[..., heads].movedim(-1, 0)
        self._own_change = after - before
        final = self._run()[..., :-1, :]
        sigma = self.anatomy.final_norm.scale(final)
        scaled_logit = (clean.u * final).sum(-1) / sigma
        ratio = clean.sigma / sigma
        return Ledger(
            layer=layer,
            heads=self.heads,
            direct_effect=before,
            ablated_direct_effect=after,
            total_effect=scaled_logit - clean.scaled_logit,
            by_attention=self.by_attention,
            by_mlp=self.by_mlp,
            by_head=self.by_head,
            post_norms=self.post_norms,
            norm=norm_repair(ratio, scaled_logit),
            sigma_ratio=ratio,
        )

    def _run(self) -> Tensor:
        """The ablated residual stream after the last block, [head, window, position, width]."""
        hidden = self.clean.residuals[self.layer].repeat(len(self.heads), 1, 1)
        with removing(*self._taps()):
            for block, given in zip(self.anatomy.blocks[self.layer :], self.arguments[self.layer :], strict=True):
                args, kwargs = with_input(given, hidden)
                hidden = first_tensor(block.module(*args, **kwargs))
        return self._unfold(hidden)

    def _taps(self) -> list[Any]:
        blocks = self.anatomy.blocks
        ablated = blocks[self.layer]
        handles = [on_input(ablated.projection, self._ablate)]
        if ablated.attention_norm is not None:
            handles.append(on_output(ablated.attention_write, lambda value: self._book_post_norm(self.layer, value)))
        if not ablated.parallel:
            handles.append(on_output(ablated.mlp_write, lambda value: self._book_mlp(self.layer, value)))
        for layer in range(self.layer + 1, len(blocks)):
            handles += self._downstream_taps(layer, blocks[layer])
        return handles

    def _downstream_taps(self, layer: int, block: Block) -> list[Any]:
        handles = [
            on_output(block.projection, lambda value: self._book_attention(layer, value)),
            on_output(block.mlp_write, lambda value: self._book_mlp(layer, value)),
        ]
        if block.attention_norm is not None:
            handles.append(on_output(block.attention_write, lambda value: self._book_post_norm(layer, value)))
        if self.by_head is not None:
            handles.append(on_input(block.projection, lambda value: self._book_heads(layer, value)))
        return handles

    def _unfold(self, value: Tensor) -> Tensor:
        """[head, window, position, width] from a module's tensor, whatever axes the model folded together."""
        return value.reshape(len(self.heads), *self.clean.tokens.shape, -1)

    def _ablate(self, projection_input: Tensor) -> Tensor:
        block = self.anatomy.blocks[self.layer]
        unfolded = self._unfold(projection_input)
        outputs = unfolded.reshape(*unfolded.shape[:-1], *block.value_constant.shape).clone()
        heads = torch.tensor(self.heads, device=outputs.device)
        in_place = (self.in_place + block.value_constant)[..., heads, :].movedim(-2, 0)
        outputs[torch.arange(len(heads), device=outputs.device), :, :, heads] = in_place
        return outputs.reshape(projection_input.shape)

    def _book_attention(self, layer: int, value: Tensor) -> None:
        after = worth(self._unfold(value), self.clean.projection_directions[layer])
        self.by_attention[..., layer] = after - self.clean.projections[layer]

    def _book_heads(self, layer: int, value: Tensor) -> None:
        block = self.anatomy.blocks[layer]
        after = self.clean.direct_effects(layer, block.split_heads(self._unfold(value)))
        assert self.by_head is not None
        self.by_head[..., layer, : block.heads] = after - self.clean.direct_effects(layer)

    def _book_mlp(self, layer: int, value: Tensor) -> None:
        after = self.anatomy.blocks[layer].mlp_multiplier * worth(self._unfold(value), self.clean.direction)
        self.by_mlp[..., layer] = after - self.clean.mlps[layer]

    def _book_post_norm(self, layer: int, value: Tensor) -> None:
        """All that attention's write changed by, less what its heads changed at the norm's clean scale."""
        multiplier = self.anatomy.blocks[layer].attention_multiplier
        change = multiplier * worth(self._unfold(value), self.clean.direction) - self.clean.attention[layer]
        through_heads = self._own_change if layer == self.layer else self.by_attention[..., layer]
        self.post_norms += change - through_heads
