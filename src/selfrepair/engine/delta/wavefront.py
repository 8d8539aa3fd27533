"""All ablated runs of a batch of windows, moving up together layer by layer, and their books."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from selfrepair.effects.ledger import Ledger
from selfrepair.engine.clean import CleanRun
from selfrepair.engine.delta.blocks import ATTENTION, HEADS, MLP, OUTPUT, PROJECTION
from selfrepair.model.anatomy import Anatomy


class Runs:
    """Ablated runs and what has been booked of them; R runs, B windows, P predictions, L layers.

    Attributes:
        heads: (layer, head) of every run, in order of joining.
        difference: to the clean residual stream, [R, B, positions, width]; rows fill up as runs join.
        joined: how many have.
    """

    def __init__(self, anatomy: Anatomy, clean: CleanRun, runs: int, per_head: bool) -> None:
        windows, positions = clean.tokens.shape
        zeros = clean.scaled_logit.new_zeros
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

    def book_own_layer(self, layer: int, rows: slice, found: Mapping[str, Tensor]) -> None:
        """Books what the ablated block itself did after its attention."""
        self._book(layer, rows, found, self.after[rows] - self.before[rows])

    def book(self, layer: int, rows: slice, found: Mapping[str, Tensor]) -> None:
        """Books what a block downstream did."""
        self.by_attention[rows, ..., layer] = found[PROJECTION]
        if self.by_head is not None:
            self.by_head[rows, ..., layer, : self.anatomy.blocks[layer].heads] = found[HEADS]
        self._book(layer, rows, found, found[PROJECTION])

    def _book(self, layer: int, rows: slice, found: Mapping[str, Tensor], through_heads: Tensor) -> None:
        block = self.anatomy.blocks[layer]
        if ATTENTION in found:  # all that attention's write changed by, less its heads at the norm's clean scale
            self.post_norms[rows] += block.attention_multiplier * found[ATTENTION] - through_heads
        if MLP in found:
            self.by_mlp[rows, ..., layer] = block.mlp_multiplier * found[MLP]
        self.difference[rows] = found[OUTPUT]

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
            effect = carried + clean.scaled_logit * shrinkage / sigma
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
                norm=shrinkage / clean.sigma * (clean.scaled_logit + effect),
                sigma_ratio=clean.sigma / sigma,
            )
