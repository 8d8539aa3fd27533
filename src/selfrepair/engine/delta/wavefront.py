"""All ablated runs of a batch of windows, moving up together layer by layer, and their books."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from selfrepair.effects.ledger import Ledger
from selfrepair.engine.clean import CleanRun, worth
from selfrepair.engine.delta.blocks import ATTENTION, HEADS, INPUT, MLP, OUTPUT, PROJECTION
from selfrepair.engine.delta.program import Program, TapeValues
from selfrepair.model.anatomy import Anatomy

Runner = Callable[[Program, TapeValues, Tensor], dict[int, Tensor]]


class Runs:
    """Ablated runs and what has been booked of them; R runs, B windows, P predictions, L layers.

    Attributes:
        heads: (layer, head) of every run, in order of joining.
        difference: to the clean residual stream, [R, B, positions, width]; rows fill up as runs join.
        joined: how many have.
    """

    def __init__(self, anatomy: Anatomy, clean: CleanRun, runs: int, per_head: bool) -> None:
        windows, positions = clean.tokens.shape
        zeros = clean.logit.new_zeros
        self.anatomy, self.clean = anatomy, clean
        self.difference = clean.residuals[0].new_empty(runs, windows, positions, anatomy.width)
        self.by_attention = zeros(runs, windows, positions - 1, anatomy.layers)
        self.by_mlp = zeros(runs, windows, positions - 1, anatomy.layers)
        self.by_head = zeros(runs, windows, positions - 1, anatomy.layers, anatomy.heads) if per_head else None
        self.post_norms = zeros(runs, windows, positions - 1)
        self.before, self.after = zeros(runs, windows, positions - 1), zeros(runs, windows, positions - 1)
        self.chunks: list[tuple[int, tuple[int, ...], slice]] = []
        self.joined = 0

    def join(self, layer: int, heads: tuple[int, ...], in_place: Tensor) -> tuple[slice, Tensor]:
        """Takes in the ablated runs of a layer's heads.

        Args:
            layer: the layer.
            heads: which of its heads.
            in_place: replacements of all heads' outputs, [window, position, head, head_dim].

        Returns:
            The rows that the runs have from now on, and the difference of the projection's output in each,
            [run, window, position, width]: a matrix of rank `head_dim`.
        """
        rows = slice(self.joined, self.joined + len(heads))
        block, clean, chosen = self.anatomy.blocks[layer], self.clean, list(heads)
        change = (in_place - clean.head_outputs[layer])[..., chosen, :]
        effects = clean.direct_effects(layer), clean.direct_effects(layer, in_place)
        self.before[rows], self.after[rows] = (effect[..., chosen].movedim(-1, 0) for effect in effects)
        self.chunks.append((layer, heads, rows))
        self.joined = rows.stop
        return rows, torch.einsum("bphe,hed->hbpd", change, block.output_weight[chosen])

    def book_own_layer(self, layer: int, rows: slice, write: Tensor, found: dict[str, Tensor]) -> None:
        """Books what the ablated block itself did after its attention."""
        if self.anatomy.blocks[layer].attention_norm is not None:
            self._book_post_norm(layer, rows, found[ATTENTION], self.after[rows] - self.before[rows])
        if MLP in found:
            self._book_mlp(layer, rows, found[MLP])

    def book(self, layer: int, rows: slice, found: dict[str, Tensor]) -> None:
        """Books what a block downstream did."""
        clean, block = self.clean, self.anatomy.blocks[layer]
        through_heads = worth(self._unfold(found[PROJECTION]), clean.projection_directions[layer])
        self.by_attention[rows, ..., layer] = through_heads
        if block.attention_norm is not None:
            self._book_post_norm(layer, rows, found[ATTENTION], through_heads)
        if self.by_head is not None:
            outputs = self._unfold(found[HEADS]).unflatten(-1, block.value_constant.shape)
            self.by_head[rows, ..., layer, : block.heads] = clean.direct_effects(layer, outputs)
        self._book_mlp(layer, rows, found[MLP])

    def ledgers(self, final: Tensor) -> Iterator[Ledger]:
        """The ledger of every layer's runs.

        Args:
            final: the clean residual stream after the last block, [window, position, width].
        """
        norm, clean = self.anatomy.final_norm, self.clean
        centred = norm.centre(final[:, :-1])
        for layer, heads, rows in self.chunks:
            moved = norm.centre(self.difference[rows, :, :-1])
            square = (moved * (2 * centred + moved)).mean(-1)  # change of sigma^2, without cancellation
            sigma = (clean.sigma.square() + square).sqrt()
            shrinkage = -square / (clean.sigma + sigma)  # sigma - sigma'
            carried = (clean.u * self.difference[rows, :, :-1]).sum(-1) / sigma
            effect = carried + (clean.logit - clean.beta) * shrinkage / sigma
            yield Ledger(
                layer=layer,
                heads=heads,
                direct_effect=self.before[rows],
                ablated_direct_effect=self.after[rows],
                total_effect=effect,
                by_attention=self.by_attention[rows],
                by_mlp=self.by_mlp[rows],
                by_head=None if self.by_head is None else self.by_head[rows],
                post_norms=self.post_norms[rows],
                norm=shrinkage / clean.sigma * (clean.logit + effect - clean.beta),
                sigma_ratio=clean.sigma / sigma,
            )

    def _unfold(self, value: Tensor) -> Tensor:
        """[run, window, position, width], whatever axes the block folded together."""
        return value.reshape(value.shape[0], *self.clean.tokens.shape, -1)

    def _book_mlp(self, layer: int, rows: slice, write: Tensor) -> None:
        multiplier = self.anatomy.blocks[layer].mlp_multiplier
        self.by_mlp[rows, ..., layer] = multiplier * worth(self._unfold(write), self.clean.direction)

    def _book_post_norm(self, layer: int, rows: slice, write: Tensor, through_heads: Tensor) -> None:
        """All that attention's write changed by, less what its heads changed at the norm's clean scale."""
        multiplier = self.anatomy.blocks[layer].attention_multiplier
        self.post_norms[rows] += multiplier * worth(self._unfold(write), self.clean.direction) - through_heads
