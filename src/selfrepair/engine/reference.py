"""The reference engine: the model's own full forward with one hook. Slow, and obviously right: the oracle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from selfrepair.ablation.units import Head, by_layer
from selfrepair.effects.ledger import Ledger, norm_repair
from selfrepair.engine.clean import CleanRun
from selfrepair.engine.contract import Replacement, Settings
from selfrepair.model.anatomy import Block
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.taps import on_input, on_output, removing
from selfrepair.progress import Advance, ignore


@dataclass
class ReferenceEngine:
    """One whole forward per head, unembedding and all; total effects from the model's own logits, less the constants
    that final norm and unembedding add to every run alike.

    Every write is recorded as a vector, in the clean and in the ablated forward, and valued after that; of
    the clean run that is handed in only the tokens are used.
    """

    name: str = "reference"

    @property
    def exact(self) -> bool:
        """See `selfrepair.engine.contract.Engine`."""
        return True

    @property
    def settings(self) -> Settings:
        """See `selfrepair.engine.contract.Engine`."""
        return {}

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
        before = _Forward(model, clean.tokens)
        for layer, heads in by_layer(units):
            in_place = replacement(layer)
            for head in heads:
                after = _Forward(model, clean.tokens, Head(layer, head), in_place[..., head, :])
                yield _ledger(model, clean, before, after, Head(layer, head), per_head)
                advance((model.anatomy.layers - layer) * len(clean.tokens))


class _Forward:
    """A full forward with all writes kept: [window, position, width] each, [.., head, head_dim] for heads."""

    def __init__(
        self, model: LanguageModel, tokens: Tensor, unit: Head | None = None, in_place: Tensor | None = None
    ) -> None:
        self.heads: dict[int, Tensor] = {}
        self.attention: dict[int, Tensor] = {}
        self.mlp: dict[int, Tensor] = {}
        self.norm_scale: dict[int, Tensor] = {}
        handles: list[Any] = [on_input(model.anatomy.final_norm_module, self._keep_final)]
        for layer, block in enumerate(model.anatomy.blocks):
            if unit is not None and unit.layer == layer:
                assert in_place is not None
                handles.append(on_input(block.projection, _putting(in_place, unit.head, block)))
            handles += self._taps(layer, block, tokens.shape)
        with removing(*handles):
            logits = model.logits(tokens, constants=False)
        self.centred = model.anatomy.readout.centred(logits)

    def _keep_final(self, value: Tensor) -> None:
        self.final = value.clone()

    def _taps(self, layer: int, block: Block, shape: torch.Size) -> list[Any]:
        def keep_heads(value: Tensor) -> None:
            self.heads[layer] = block.split_heads(value.reshape(*shape, -1)).clone()

        def keep_attention(value: Tensor) -> None:
            self.attention[layer] = block.attention_multiplier * value.reshape(*shape, -1)

        def keep_mlp(value: Tensor) -> None:
            self.mlp[layer] = block.mlp_multiplier * value.reshape(*shape, -1)

        def keep_norm_scale(value: Tensor) -> None:
            assert block.attention_norm is not None
            self.norm_scale[layer] = block.attention_norm.scale(value.reshape(*shape, -1)).unsqueeze(-1)

        taps = [
            on_input(block.projection, keep_heads),
            on_output(block.attention_write, keep_attention),
            on_output(block.mlp_write, keep_mlp),
        ]
        if block.attention_norm is not None:
            taps.append(on_output(block.projection, keep_norm_scale))
        return taps


def _putting(in_place: Tensor, head: int, block: Block) -> Any:
    """A hook that overwrites one head's slice of the projection's input."""

    def put(value: Tensor) -> Tensor:
        changed = value.clone()
        start = head * block.head_dim
        outputs = in_place + block.value_constant[head]
        changed[..., start : start + block.head_dim] = outputs.reshape(*value.shape[:-1], -1)
        return changed

    return put


def _ledger(
    model: LanguageModel, clean: CleanRun, before: _Forward, after: _Forward, unit: Head, per_head: bool
) -> Ledger:
    anatomy, norm = model.anatomy, model.anatomy.final_norm
    targets = clean.tokens[:, 1:]
    final, ablated_final = before.final[:, :-1], after.final[:, :-1]
    sigma, ablated_sigma = norm.scale(final), norm.scale(ablated_final)
    logit, ablated_logit = (
        run.centred[:, :-1].gather(-1, targets.unsqueeze(-1)).squeeze(-1) for run in (before, after)
    )

    def value(write: Tensor) -> Tensor:
        return (clean.u * write[:, :-1]).sum(-1) / sigma

    def value_heads(run: _Forward, layer: int) -> Tensor:
        """Direct effects of a layer's heads [window, P, head], through clean scales."""
        block = anatomy.blocks[layer]
        writes = torch.einsum("bphe,hed->bphd", run.heads[layer], block.output_weight)
        if block.attention_norm is not None:
            centred = block.attention_norm.centre(writes)
            writes = block.attention_norm.gain * centred / before.norm_scale[layer].unsqueeze(-1)
        writes = block.attention_multiplier * writes
        return torch.stack([value(writes[:, :, head]) for head in range(block.heads)], -1)

    own_before, own_after = (value_heads(run, unit.layer)[..., unit.head] for run in (before, after))
    by_head = logit.new_zeros(*targets.shape, anatomy.layers, anatomy.heads)
    by_mlp = logit.new_zeros(*targets.shape, anatomy.layers)
    post_norms = torch.zeros_like(logit)
    for layer, block in enumerate(anatomy.blocks):
        change = value_heads(after, layer) - value_heads(before, layer)
        by_head[..., layer, : block.heads] = change
        by_mlp[..., layer] = value(after.mlp[layer]) - value(before.mlp[layer])
        if block.attention_norm is not None:
            post_norms += value(after.attention[layer]) - value(before.attention[layer]) - change.sum(-1)
    by_head[..., unit.layer, unit.head] = 0
    ratio = sigma / ablated_sigma
    return Ledger(
        layer=unit.layer,
        heads=(unit.head,),
        direct_effect=own_before[None],
        ablated_direct_effect=own_after[None],
        total_effect=(ablated_logit - logit)[None],
        by_attention=by_head.sum(-1)[None],
        by_mlp=by_mlp[None],
        by_head=by_head[None] if per_head else None,
        post_norms=post_norms[None],
        norm=norm_repair(ratio, ablated_logit)[None],
        sigma_ratio=ratio[None],
    )
