"""All ablated runs of a batch of windows, moving up together layer by layer, and their accounts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selfrepair.ablation.interventions import Intervention
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.accounts import Accounts, Patch, RunNumbers
from selfrepair.engine.clean import CleanRun
from selfrepair.engine.contract import Replacement
from selfrepair.engine.delta.blocks import ATTENTION, HEADS, MIXER, NEURONS, OUTPUT, PROJECTION, mlp_mark
from selfrepair.engine.delta.tape import Tape
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.places import place_of
from selfrepair.model.ports import Kind, Port
from selfrepair.model.stream_directions import vector_of

_MARKS: dict[Kind, str] = {"heads": HEADS, "mixer": MIXER, "neurons": NEURONS}


def mark_of(port: Port) -> str:
    """The mark of a port's value on a tape."""
    return mlp_mark(port.write) if port.kind == "mlp" else _MARKS[port.kind]


class Runs:
    """R ablated runs and what has been booked of them; B windows.

    Attributes:
        interventions: in order of joining: those that start lowest come first.
        difference: difference to the clean residual stream, [R, B, position, width]; rows fill up as runs join.
        joined: how many runs have joined.
    """

    def __init__(
        self, model: LanguageModel, clean: CleanRun, interventions: Sequence[Intervention], per_component: bool
    ) -> None:
        self.model, self.anatomy, self.clean = model, model.anatomy, clean
        self.accounts = Accounts(model.anatomy, clean, interventions, per_component)
        shape = (len(interventions), *clean.tokens.shape, model.anatomy.width)
        self.difference = clean.residuals[0].new_empty(shape)
        self.chunks: list[slice] = []
        self.joined = 0

    def join(self, layer: int, runs: int, replacement: Replacement) -> tuple[slice, Tensor]:
        """Adds the runs that start in a layer.

        Args:
            layer: the layer.
            runs: how many runs start there.
            replacement: what goes in the place of replaced outputs.

        Returns:
            The rows that the runs have from now on, and the difference of the projection's output in each,
            [run, window, position, width]; of single heads, matrices of rank `head_dim`.
        """
        rows = slice(self.joined, self.joined + runs)
        self.chunks.append(rows)
        self.joined = rows.stop
        port = Port(layer, "heads")
        touching = [row for row in self.accounts.touching(port) if rows.start <= row < rows.stop]
        write = self.difference[rows]
        if not touching:
            return rows, write.zero_()
        in_place, block = replacement(port), self.anatomy.blocks[layer]
        change = in_place - self.clean.head_outputs[layer]
        patch = self.accounts.patch(port, range(rows.start, rows.stop), block.heads)
        self.accounts.replace(port, rows, patch, in_place)
        single = self._single_heads(patch)
        if single is not None:
            return rows, torch.einsum("bphe,hed->hbpd", change[..., single, :], block.output_weight[single])
        masked = torch.where(patch.put.unsqueeze(-1), change, 0)
        return rows, torch.einsum("rbphe,hed->rbpd", masked, block.output_weight)

    def _single_heads(self, patch: Patch) -> list[int] | None:
        """The head that each run replaces everywhere, if each replaces just one."""
        if patch.put.shape[2] != 1 or not bool((patch.put.sum(-1) == 1).all()):
            return None
        heads: list[int] = patch.put[:, 0, 0].int().argmax(-1).tolist()
        return heads

    def patches(
        self, layer: int, rows: Sequence[int], tape: Tape, replacement: Replacement, kinds: Sequence[Kind]
    ) -> dict[str, PatchAt]:
        """The patches of some runs at the ports of a layer, by mark, with their direct effects booked.

        Args:
            layer: the layer.
            rows: the runs.
            tape: the layer's tape.
            replacement: what goes in the place of replaced outputs.
            kinds: kinds of ports.
        """
        patches: dict[str, PatchAt] = {}
        for port in self.accounts.touched_ports(layer):
            if port.kind not in kinds or not set(self.accounts.touching(port)).intersection(rows):
                continue
            place, clean = place_of(self.model, port), self.clean.outputs_at(port)
            patch = self.accounts.patch(port, rows, place.entries)
            replaced = replacement(port) if patch.put.any() else clean
            lost = self.accounts.replace(port, list(rows), patch, replaced)
            mark = mark_of(port)
            patches[mark] = PatchAt(tape.marks[mark], patch, replaced - clean, lost)
        return patches

    def replace_directions(self, layer: int, replacement: Replacement) -> None:
        """Books and replaces directions of a block's output, once the runs that start with one have passed the block.

        Args:
            layer: of the block.
            replacement: what goes in the place of replaced outputs.
        """
        for port in self.accounts.touched_ports(layer):
            if port.kind == "stream":
                rows, replaced = self.accounts.touching(port), replacement(port)
                patch = self.accounts.patch(port, rows, 1)
                self.accounts.replace(port, rows, patch, replaced)
                difference, vector = self.difference[rows], vector_of(port, self.difference)
                now = (difference @ vector)[..., None, None]
                wanted = patch.differences(now, replaced - self.clean.outputs_at(port))
                self.difference[rows] = difference + (wanted - now)[..., 0] * vector

    def book_own_layer(
        self, layer: int, rows: RunNumbers, probed: Mapping[str, Tensor], patches: Mapping[str, PatchAt]
    ) -> None:
        """Books what the block in which runs start did after its attention."""
        through_heads = self.accounts.after[rows] - self.accounts.before[rows]
        for patch in patches.values():  # behind the heads: booked with them, in the one layer that runs have seen
            through_heads = through_heads - patch.lost
        self._book(layer, rows, probed, through_heads, patches)

    def book(self, layer: int, rows: RunNumbers, probed: Mapping[str, Tensor], patches: Mapping[str, PatchAt]) -> None:
        """Books what a block downstream did."""
        through_heads = probed.get(PROJECTION, self.accounts.before.new_zeros(()))
        if HEADS in patches:
            heads = patches[HEADS]
            going_on = self.accounts.untouched(heads.patch, probed[HEADS])
            through_heads = going_on.sum(-1) + heads.lost
            self.accounts.book_heads(layer, rows, going_on)
            self.accounts.book_attention(layer, rows, going_on.sum(-1))
        elif PROJECTION in probed:
            self.accounts.book_attention(layer, rows, through_heads)
            if HEADS in probed:
                self.accounts.book_heads(layer, rows, probed[HEADS])
        self._book(layer, rows, probed, through_heads, patches)

    def _book(
        self,
        layer: int,
        rows: RunNumbers,
        probed: Mapping[str, Tensor],
        through_heads: Tensor,
        patches: Mapping[str, PatchAt],
    ) -> None:
        block = self.anatomy.blocks[layer]
        if ATTENTION in probed:  # all that attention's write changed by, less its heads at the norm's clean scale
            self.accounts.book_post_norm(rows, block.attention_multiplier * probed[ATTENTION] - through_heads)
        if MIXER in probed:
            change = block.mixer_multiplier * probed[MIXER]
            if MIXER in patches:
                change = self.accounts.untouched(patches[MIXER].patch, change.unsqueeze(-1)).squeeze(-1)
            self.accounts.book_mixer(layer, rows, change)
        for number, (_, multiplier) in enumerate(block.mlps):
            name = mlp_mark(number)
            if name not in probed:
                continue
            change = multiplier * probed[name]
            if name in patches:
                change = self.accounts.untouched(patches[name].patch, change.unsqueeze(-1)).squeeze(-1)
            if number == 0 and NEURONS in patches:
                change = change - patches[NEURONS].lost
            self.accounts.book_mlp(layer, number, rows, change)
        self.difference[rows] = probed[OUTPUT]

    def ledgers(self, final: Tensor) -> Iterator[Ledger]:
        """The ledgers of all runs, those of one starting layer together.

        Args:
            final: the clean residual stream after the last block, [window, position, width].
        """
        norm, clean = self.anatomy.final_norm, self.clean
        centred = norm.centre(clean.reading.at(final))
        for rows in self.chunks:
            difference = clean.reading.at(self.difference[rows])
            moved = norm.centre(difference)
            square = (moved * (2 * centred + moved)).mean(-1)  # change of sigma^2, without cancellation
            sigma = (clean.sigma.square() + square).sqrt()
            shrinkage = -square / (clean.sigma + sigma)  # sigma - sigma'
            effect = (clean.u * difference).sum(-1) / sigma + clean.scaled_logit * shrinkage / sigma
            change = shrinkage / clean.sigma * (clean.scaled_logit + effect)
            bent = clean.reading.curvature(final, clean.reading.at(final) + difference, effect)
            yield self.accounts.ledger(rows, effect, change, clean.sigma / sigma, bent)


@dataclass(frozen=True)
class PatchAt:
    """The patch of some runs at a value of a tape.

    Attributes:
        index: number of the value.
        patch: the runs' patch.
        change: change of what is put there, [window, position, entry, size].
        lost: change in direct effects of what is replaced [run, window, P].
    """

    index: int
    patch: Patch
    change: Tensor
    lost: Tensor

    def rows(self, rows: slice) -> PatchAt:
        """The patch of some of the runs."""
        return PatchAt(self.index, self.patch.rows(rows), self.change, self.lost[rows])

    def moved(self, shape: torch.Size) -> Callable[[Tensor], Tensor]:
        """A function that patches differences of a value of that shape, [run, *shape]."""

        def patched(difference: Tensor) -> Tensor:
            runs = difference.shape[0]
            unfolded = difference.expand(runs, *shape).reshape(runs, *self.change.shape)
            return self.patch.differences(unfolded, self.change).reshape(runs, *shape)

        return patched
