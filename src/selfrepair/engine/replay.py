"""The replay engine: from the ablated layer upwards, with Hugging Face's own blocks, runs folded into the batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from selfrepair.ablation.interventions import Intervention, each
from selfrepair.ablation.sites import Head
from selfrepair.effects.ledger import Ledger, norm_repair
from selfrepair.engine.accounts import Accounts, Patch, nothing_happens, require_sites
from selfrepair.engine.clean import CleanRun
from selfrepair.engine.contract import Replacement, Settings
from selfrepair.engine.fold import Folding, fastest_fold, halving_when_memory_ends
from selfrepair.engine.forks import Fork, Origin, families, forks, in_order, left_at
from selfrepair.model.anatomy import Block
from selfrepair.model.block_run import BlockRun
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.places import place_of
from selfrepair.model.ports import Port
from selfrepair.model.taps import Place, on_input, on_output, removing
from selfrepair.progress import Advance, ignore


@dataclass
class ReplayEngine:
    """Replays the blocks from the ablated one up, on the clean run's residual stream.

    Example:
        >>> chosen = [together("both", [Head(0, 0), Head(1, 1)])]
        >>> with model.running():
        ...     (ledger,) = ReplayEngine(fold=1).sweep(model, clean, chosen, donors.__getitem__, per_component=False)
        >>> ledger.by_mlp.shape  # [intervention, window, P, layer]
        torch.Size([1, 2, 11, 2])

    Attributes:
        fold: how many runs share a batch; found by a short trial where not given, and halved where memory runs out.
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
        interventions: Sequence[Intervention],
        replacement: Replacement,
        per_component: bool,
        advance: Advance = ignore,
    ) -> Iterator[Ledger]:
        """See `selfrepair.engine.contract.Engine`."""
        model.require_running("sweep")
        if self.fold is None:
            self.fold = self.probe(model, clean)
        require_sites(model, clean.tokens.shape[1], interventions)
        folding = Folding(self.fold)
        yield from nothing_happens(model.anatomy, clean, interventions, per_component)
        for family in families(forks(interventions, model.anatomy.layers, model.anatomy.alone)):
            yield from self._family(model, clean, family, replacement, per_component, folding, advance)
        self.fold = folding.size

    def _family(
        self,
        model: LanguageModel,
        clean: CleanRun,
        family: Sequence[Fork],
        replacement: Replacement,
        per_component: bool,
        folding: Folding,
        advance: Advance,
    ) -> Iterator[Ledger]:
        """Ledgers of runs that leave each other, parents before children."""
        left = left_at(family)
        origins: dict[tuple[Intervention, int], Origin] = {}
        for group in in_order(family):
            remembered = cache(replacement)  # chunks of a group share their replacements
            for chunk in folding.chunks(group):
                runs = [fork.intervention for fork in chunk]
                before = [origins[fork.parent, fork.layer] for fork in chunk if fork.parent is not None]
                with halving_when_memory_ends(folding, chunk):
                    replay = Replay(model, clean, chunk[0].layer, runs, remembered, per_component, before)
                    replay.keep({row: left.get(run, ()) for row, run in enumerate(runs)})
                    yield replay.ledger()
                    origins |= {(runs[row], layer): origin for (row, layer), origin in replay.kept.items()}
                    advance((model.anatomy.layers - chunk[0].start) * len(chunk) * len(clean.tokens))

    def probe(self, model: LanguageModel, clean: CleanRun) -> int:
        """The fold with the least time per run, by timing the last blocks at several."""
        if not model.anatomy.heads:
            return 1  # mixers: one in a layer, and runs of one layer share a batch
        layer = model.anatomy.layers_with_heads[-2:][0]

        def run(fold: int) -> None:
            chunk = each(Head(layer, head) for head in range(fold))
            Replay(model, clean, layer, chunk, clean.outputs_at, False).ledger()

        return fastest_fold(run, most=model.anatomy.blocks[layer].heads)


class _Change(NamedTuple):
    """The change at a port: its place, which runs put or hold outputs there, and the replacement."""

    place: Place
    patch: Patch
    replaced: Tensor


class Replay:
    """One replay: some interventions from the same layer up, each in its own copy of the batch.

    Attributes:
        start: the lowest layer that is replayed.
        kept: streams that enter blocks and accounts of then, by row and layer, for runs that leave these.
    """

    def __init__(
        self,
        model: LanguageModel,
        clean: CleanRun,
        start: int,
        interventions: Sequence[Intervention],
        replacement: Replacement,
        per_component: bool,
        origins: Sequence[Origin] = (),
    ) -> None:
        """A replay.

        Args:
            model: the model.
            clean: the clean run.
            start: the lowest layer to replay: the interventions' first, or where they leave other runs.
            interventions: the runs.
            replacement: what to put in the place of replaced outputs.
            per_component: whether ledgers get a line for every downstream head.
            origins: what each run goes on from, if not from the clean run.
        """
        self.model, self.anatomy, self.clean, self.start = model, model.anatomy, clean, start
        self.blocks = BlockRun(model, clean.tokens.repeat(len(interventions), 1))
        self.accounts = Accounts(model.anatomy, clean, interventions, per_component)
        self.origins, self.kept = origins, dict[tuple[int, int], Origin]()
        self._keeping: dict[int, list[int]] = {}
        for row, origin in enumerate(origins):
            self.accounts.take_over(row, origin.booked)
        self._through_heads = torch.zeros_like(self.accounts.before)  # what heads of the layer at work changed by
        self._through_neurons: Tensor | None = None
        self._changes = self._changes_with(replacement)  # before any hook is there: donors take a forward

    def _changes_with(self, replacement: Replacement) -> dict[Port, _Change]:
        """The change at every port that some run touches."""
        rows = range(len(self.accounts.interventions))
        changes, layers = {}, range(self.start, self.anatomy.layers)
        for port in (port for layer in layers for port in self.accounts.touched_ports(layer)):
            place = place_of(self.model, port)
            patch = self.accounts.patch(port, rows, place.entries)
            replaced = replacement(port) if patch.put.any() else self.clean.outputs_at(port)
            changes[port] = _Change(place, patch, replaced)
        return changes

    def ledger(self) -> Ledger:
        """Runs the blocks and books what they do."""
        clean = self.clean
        final = clean.reading.at(self.run())
        sigma = self.anatomy.final_norm.scale(final)
        scaled_logit = (clean.u * final).sum(-1) / sigma
        ratio = clean.sigma / sigma
        effect = scaled_logit - clean.scaled_logit
        bent = clean.reading.curvature(clean.final, final, effect)
        return self.accounts.ledger(slice(None), effect, norm_repair(ratio, scaled_logit), ratio, bent)

    def keep(self, layers: Mapping[int, Iterable[int]]) -> None:
        """Asks for what enters some layers in some runs, by row; it is in `kept` after the run."""
        for row, chosen in layers.items():
            for layer in chosen:
                self._keeping.setdefault(layer, []).append(row)

    def run(self) -> Tensor:
        """The ablated residual stream after the last block, [run, window, position, width]."""
        runs, first = len(self.accounts.interventions), self.start
        origins = [origin.stream for origin in self.origins]
        stream = torch.cat(origins) if origins else self.clean.residuals[first].repeat(runs, 1, 1)
        with removing(*self.taps()):
            for layer in sorted(self._keeping):
                stream, first = self.blocks(stream, first, layer), layer
                for row in self._keeping[layer]:
                    self.kept[row, layer] = Origin(self._unfold(stream)[row].clone(), self.accounts.booked(row))
            return self._unfold(self.blocks(stream, first))

    def taps(self) -> list[Any]:
        """Hooks of all replayed layers; what is replaced or held is so before anything is read."""
        handles = []
        for layer in range(self.start, len(self.anatomy.blocks)):
            block, patched = self.anatomy.blocks[layer], self.accounts.touched_ports(layer)
            for port in patched:
                handles.append(self._changes[port].place.tap(partial(self._patch, port)))
            handles += self._readers(layer, block, patched)
        return handles

    def _readers(self, layer: int, block: Block, patched: Sequence[Port]) -> list[Any]:
        """Hooks that book what was not patched: below the run's start nothing has moved."""
        handles, heads, mixer = [], Port(layer, "heads"), Port(layer, "mixer")
        if heads not in patched and self._moves(heads):
            handles.append(on_output(block.projection, lambda value: self._book_attention(layer, value)))
            if self.accounts.by_head is not None:
                handles.append(on_input(block.projection, lambda value: self._book_heads(layer, value)))
        if mixer not in patched and self._moves(mixer):
            handles.append(on_output(block.mixer_write, lambda value: self._book_mixer(layer, value)))
        for part, (module, _) in zip(block.mlp_parts, block.mlps, strict=True):
            port = Port(layer, "mlp", part=part)
            if port not in patched and self._moves(port):
                handles.append(on_output(module, partial(self._book_mlp, port)))
        if block.attention_norm is not None and (heads in patched or self._moves(heads)):
            handles.append(on_output(block.attention_write, lambda value: self._book_post_norm(layer, value)))
        return handles

    def _moves(self, port: Port) -> bool:
        """Whether what a block computes at a port can differ from the clean run."""
        if port.layer > self.start or self.origins:
            return True
        if port.kind in ("heads", "mixer"):
            return False
        touched = {other for other in self.accounts.touched_ports(port.layer) if other != port}
        kinds = {other.kind for other in touched}
        after_attention = kinds & {"heads", "mixer"} and not self.anatomy.blocks[port.layer].parallel
        return bool(after_attention) or (port.kind == "mlp" and bool(kinds & {"neurons", "mlp"}))

    def _unfold(self, value: Tensor) -> Tensor:
        """[run, window, position, width] from a module's tensor, whatever axes the model folded together."""
        return value.reshape(len(self.accounts.interventions), *self.clean.tokens.shape, -1)

    def _patch(self, port: Port, value: Tensor) -> Tensor:
        """Replaces and holds a port's outputs as the interventions ask, and books them with the entries that go on."""
        clean, accounts = self.clean, self.accounts
        place, patch, replaced = self._changes[port]
        outputs = place.split(self._unfold(value))
        patched = patch.values(outputs, replaced, clean.outputs_at(port))
        gone = accounts.replace(port, slice(None), patch, replaced)
        change = clean.direct_effects_at(port, patched) - clean.direct_effects_at(port)
        going_on = accounts.untouched(patch, change) if self._moves(port) else torch.zeros_like(change)
        if port.kind == "heads":
            accounts.book_heads(port.layer, slice(None), going_on)
            accounts.book_attention(port.layer, slice(None), going_on.sum(-1))
            self._through_heads = going_on.sum(-1) + gone
        elif port.kind == "neurons":
            self._through_neurons = gone
        elif port.kind == "mixer":
            accounts.book_mixer(port.layer, slice(None), going_on.sum(-1))
        elif port.kind == "mlp":
            self._book_write(port, going_on.sum(-1))
        return place.changed(value, outputs, patched)

    def _book_attention(self, layer: int, value: Tensor) -> None:
        after = self.clean.worth(self._unfold(value), self.clean.projection_directions[layer])
        self._through_heads = after - self.clean.projections[layer]
        self.accounts.book_attention(layer, slice(None), self._through_heads)

    def _book_heads(self, layer: int, value: Tensor) -> None:
        block = self.anatomy.blocks[layer]
        after = self.clean.direct_effects(layer, block.heads_place.split(self._unfold(value)))
        self.accounts.book_heads(layer, slice(None), after - self.clean.direct_effects(layer))

    def _book_mixer(self, layer: int, value: Tensor) -> None:
        block = self.anatomy.blocks[layer]
        along = block.with_gain(self.clean.direction, "mixer")
        after = block.mixer_multiplier * self.clean.worth(self._unfold(value), along)
        self.accounts.book_mixer(layer, slice(None), after - self.clean.mixers[layer])

    def _book_mlp(self, port: Port, value: Tensor) -> None:
        block = self.anatomy.blocks[port.layer]
        along = block.with_gain(self.clean.direction, port.write)
        after = block.multiplier(port) * self.clean.worth(self._unfold(value), along)
        self._book_write(port, after - self.clean.mlp_writes[port.layer][port.write])

    def _book_write(self, port: Port, change: Tensor) -> None:
        """Books a write of an MLP, the first one without what its replaced neurons changed."""
        if port.write == 0 and self._through_neurons is not None:
            change, self._through_neurons = change - self._through_neurons, None
        self.accounts.book_mlp(port.layer, port.write, slice(None), change)

    def _book_post_norm(self, layer: int, value: Tensor) -> None:
        """All that attention's write changed by, less what its heads changed at the norm's clean scale."""
        block = self.anatomy.blocks[layer]
        along = block.with_gain(self.clean.direction, "attention")
        after = block.attention_multiplier * self.clean.worth(self._unfold(value), along)
        self.accounts.book_post_norm(slice(None), after - self.clean.attention[layer] - self._through_heads)
