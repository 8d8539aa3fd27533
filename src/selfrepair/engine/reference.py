"""The reference engine: the model's own full forward under hooks. It is slow, and other engines are held to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from selfrepair.ablation.interventions import Intervention, ports_of
from selfrepair.ablation.sites import Site
from selfrepair.effects.ledger import Ledger, norm_repair
from selfrepair.engine.accounts import require_sites
from selfrepair.engine.clean import CleanRun
from selfrepair.engine.contract import Replacement, Settings
from selfrepair.model.anatomy import Block
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.places import place_of
from selfrepair.model.ports import Port
from selfrepair.model.stream_directions import vector_of
from selfrepair.model.taps import Place, on_input, on_output, removing
from selfrepair.progress import Advance, ignore


@dataclass
class ReferenceEngine:
    """One whole forward per intervention, unembedding and all; total effects come from the model's own logits, less the
    constants that final norm and unembedding add to every run alike.

    Every write is recorded as a vector, in the clean and in the ablated forward, and valued after that; of
    the clean run that is passed in only the tokens are used.

    Example:
        >>> chosen = each([Head(0, 0)])
        >>> with model.running():
        ...     (oracle,) = ReferenceEngine().sweep(model, clean, chosen, donors.__getitem__, per_component=False)
        ...     (replayed,) = ReplayEngine(fold=1).sweep(model, clean, chosen, donors.__getitem__, per_component=False)
        >>> bool((oracle.total_effect - replayed.total_effect).abs().max() < 1e-4)
        True
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
        interventions: Sequence[Intervention],
        replacement: Replacement,
        per_component: bool,
        advance: Advance = ignore,
    ) -> Iterator[Ledger]:
        """See `selfrepair.engine.contract.Engine`."""
        model.require_running("sweep")
        require_sites(model, clean.tokens.shape[1], interventions)
        before, layers = _Forward(model, clean), model.anatomy.layers
        for intervention in interventions:
            after = _Forward(model, clean, intervention, replacement)
            yield _Valuation(model, clean, before, after, intervention, replacement).ledger(per_component)
            start = layers if intervention.start is None else intervention.start
            advance((layers - start) * len(clean.tokens))


class _Forward:
    """A full forward with all writes kept: [window, position, width] each, [.., entry, size] at ports."""

    def __init__(
        self,
        model: LanguageModel,
        clean: CleanRun,
        intervention: Intervention | None = None,
        replacement: Replacement | None = None,
    ) -> None:
        self.ports: dict[Port, Tensor] = {}
        self.attention: dict[int, Tensor] = {}
        self.mlp: dict[int, dict[int, Tensor]] = {}
        self.mixer: dict[int, Tensor] = {}
        self.norm_scale: dict[int, Tensor] = {}
        puts = []
        if intervention is not None and replacement is not None:  # before any hook is there: donors take a forward
            ports = sorted(ports_of([intervention]))
            puts = [_Putting(model, clean, intervention, port, replacement) for port in ports]
        handles: list[Any] = [on_input(model.anatomy.final_norm_module, self._keep_final)]
        handles += [put.place.tap(put) for put in puts]
        for layer, block in enumerate(model.anatomy.blocks):
            handles += self._taps(layer, block, clean.tokens.shape)
        of_heads = [Port(layer, "heads") for layer, block in enumerate(model.anatomy.blocks) if block.heads]
        for port in of_heads + list(clean.others):
            place = place_of(model, port)
            handles.append(place.tap(partial(self._keep_port, port, place, clean.tokens.shape)))
        with removing(*handles):
            logits = model.logits(clean.tokens, constants=False)
        self.centred = model.anatomy.unembedding.centred(logits)

    def _keep_final(self, value: Tensor) -> None:
        self.final = value.clone()

    def _keep_port(self, port: Port, place: Place, shape: torch.Size, value: Tensor) -> None:
        self.ports[port] = place.split(value.reshape(*shape, -1)).clone()

    def _taps(self, layer: int, block: Block, shape: torch.Size) -> list[Any]:
        def keep_attention(value: Tensor) -> None:
            self.attention[layer] = block.attention_multiplier * block.with_gain(value.reshape(*shape, -1), "attention")

        def keep_mlp(number: int, multiplier: float, value: Tensor) -> None:
            self.mlp.setdefault(layer, {})[number] = multiplier * block.with_gain(value.reshape(*shape, -1), number)

        def keep_mixer(value: Tensor) -> None:
            self.mixer[layer] = block.mixer_multiplier * block.with_gain(value.reshape(*shape, -1), "mixer")

        def keep_norm_scale(value: Tensor) -> None:
            assert block.attention_norm is not None
            self.norm_scale[layer] = block.attention_norm.scale(value.reshape(*shape, -1)).unsqueeze(-1)

        taps = [
            on_output(block.attention_write, keep_attention),
            on_output(block.mixer_write, keep_mixer),
            *(on_output(module, partial(keep_mlp, number, by)) for number, (module, by) in enumerate(block.mlps)),
        ]
        if block.attention_norm is not None:
            taps.append(on_output(block.projection, keep_norm_scale))
        return taps


class _Putting:
    """A hook that overwrites the parts of a port's tensor that an intervention replaces or freezes, site by site."""

    def __init__(
        self, model: LanguageModel, clean: CleanRun, intervention: Intervention, port: Port, replacement: Replacement
    ) -> None:
        self.place, self.shape = place_of(model, port), clean.tokens.shape
        here = [[site for site in sites if site.port == port] for sites in (intervention.frozen, intervention.replaced)]
        self.steps = [(site, clean.outputs_at(port)) for site in here[0]]
        self.steps += [(site, replacement(port)) for site in here[1]]  # later, so that what is both is replaced

    def __call__(self, value: Tensor) -> Tensor:
        now = self.place.split(value.reshape(*self.shape, -1))
        wanted = now.clone()
        for site, outputs in self.steps:
            for position in range(self.shape[1]) if site.positions is None else site.positions:
                for entry in range(self.place.entries) if site.entries is None else site.entries:
                    wanted[:, position, entry] = outputs[:, position, entry]
        return self.place.changed(value, now, wanted)


class _Valuation:
    """What two forwards' writes, as vectors, are worth in logits: the ledger from its definition."""

    def __init__(
        self,
        model: LanguageModel,
        clean: CleanRun,
        before: _Forward,
        after: _Forward,
        intervention: Intervention,
        replacement: Replacement,
    ) -> None:
        self.model, self.clean, self.before, self.after = model, clean, before, after
        self.intervention, self.replacement = intervention, replacement
        norm, at = model.anatomy.final_norm, clean.reading.at
        self.sigma, self.ablated_sigma = norm.scale(at(before.final)), norm.scale(at(after.final))

    def ledger(self, per_component: bool) -> Ledger:
        anatomy, clean, before, after = self.model.anatomy, self.clean, self.before, self.after
        value, ablated_value = self._values()
        by_head = value.new_zeros(*value.shape, anatomy.layers, anatomy.heads)
        by_mlp_write = value.new_zeros(*value.shape, anatomy.layers, anatomy.mlp_writes)
        by_mixer = value.new_zeros(*value.shape, anatomy.layers)
        own, own_after, post_norms = (torch.zeros_like(value) for _ in range(3))
        for layer, block in enumerate(anatomy.blocks):
            if block.heads:
                change = self._heads(after, layer) - self._heads(before, layer)
                by_head[..., layer, : block.heads] = change.masked_fill(self._touched(Port(layer, "heads")), 0)
            for number, part in enumerate(block.mlp_parts):
                by_mlp_write[..., layer, number] = self._mlp(Port(layer, "mlp", part=part))
            if block.has_mixer:
                moved = self._worth(after.mixer[layer]) - self._worth(before.mixer[layer])
                by_mixer[..., layer] = moved.masked_fill(self._touched(Port(layer, "mixer"))[..., 0], 0)
            for port in sorted(port for port in ports_of([self.intervention]) if port.layer == layer):
                lost = self._lost(port)
                own, own_after = own + lost[0], own_after + lost[1]
            if block.attention_norm is not None:
                post_norms += self._worth(after.attention[layer]) - self._worth(before.attention[layer])
                post_norms -= change.sum(-1)
        ratio = self.sigma / self.ablated_sigma
        effect = ablated_value - value
        bent = clean.reading.curvature(before.final, clean.reading.at(after.final), effect)
        return Ledger(
            interventions=(self.intervention,),
            direct_effect=own[None],
            ablated_direct_effect=own_after[None],
            total_effect=(effect + bent)[None],
            by_attention=by_head.sum(-1)[None],
            by_mlp=by_mlp_write.sum(-1)[None],
            by_mlp_write=by_mlp_write[None] if per_component else None,
            by_mixer=by_mixer[None],
            by_head=by_head[None] if per_component else None,
            post_norms=post_norms[None],
            norm=norm_repair(ratio, ablated_value)[None],
            sigma_ratio=ratio[None],
            curvature=bent[None],
        )

    def _values(self) -> tuple[Tensor, Tensor]:
        """What is measured of both forwards [window, P], without constants; of a bent readout its linear part."""
        reading = self.clean.reading
        if reading.value is None:
            before, after = (reading.from_logits(run.centred) for run in (self.before, self.after))
            return before, after
        final, ablated = (reading.at(run.final) for run in (self.before, self.after))
        return (reading.u * final).sum(-1) / self.sigma, (reading.u * ablated).sum(-1) / self.ablated_sigma

    def _worth(self, write: Tensor) -> Tensor:
        return (self.clean.u * self.clean.reading.at(write)).sum(-1) / self.sigma

    def _heads(self, run: _Forward, layer: int, outputs: Tensor | None = None) -> Tensor:
        """Direct effects of a layer's heads [window, P, head], through clean scales."""
        block = self.model.anatomy.blocks[layer]
        outputs = run.ports[Port(layer, "heads")] if outputs is None else outputs
        writes = torch.einsum("bphe,hed->bphd", outputs, block.output_weight)
        if block.attention_norm is not None:
            centred = block.attention_norm.centre(writes)
            writes = block.attention_norm.gain * centred / self.before.norm_scale[layer].unsqueeze(-1)
        writes = block.attention_multiplier * block.with_gain(writes, "attention")
        return torch.stack([self._worth(writes[:, :, head]) for head in range(block.heads)], -1)

    def _mlp(self, port: Port) -> Tensor:
        """Change of the direct effect of an MLP's write by what is not replaced in it."""
        after, before = (run.mlp[port.layer][port.write] for run in (self.after, self.before))
        change = self._worth(after) - self._worth(before)
        change = change.masked_fill(self._touched(port)[..., 0], 0)
        if port.write:
            return change
        lost, put = self._lost(Port(port.layer, "neurons"))
        return change - (put - lost)

    def _lost(self, port: Port) -> tuple[Tensor, Tensor]:
        """Direct effects of what is replaced at a port, and of what is put there, [window, P]."""
        put = self._mask(port, self.intervention.replaced)
        if not put.any():
            return torch.zeros_like(self.sigma), torch.zeros_like(self.sigma)
        effects = [self._effects(port, outputs) for outputs in (self.before.ports[port], self.replacement(port))]
        return effects[0].masked_fill(~put, 0).sum(-1), effects[1].masked_fill(~put, 0).sum(-1)

    def _effects(self, port: Port, outputs: Tensor) -> Tensor:
        if port.kind == "heads":
            return self._heads(self.before, port.layer, outputs)
        block = self.model.anatomy.blocks[port.layer]
        if port.kind in ("mlp", "mixer"):
            written = block.with_gain(outputs[..., 0, :], port.write if port.kind == "mlp" else "mixer")
            return self._worth(block.multiplier(port) * written).unsqueeze(-1)
        if port.kind == "stream":
            along = block.with_gain(vector_of(port, outputs), "stream")
            return self._worth(block.later_multiplier * outputs[..., 0] * along).unsqueeze(-1)
        neurons = self.model.neurons(port.layer)
        clean_write = neurons.output(self.before.ports[port].flatten(-2))
        effects = []
        for neuron in range(outputs.shape[-2]):
            write = outputs[..., neuron, :] * neurons.weight[neuron]
            if neurons.norm is not None:
                scale = neurons.norm.scale(clean_write).unsqueeze(-1)
                write = neurons.norm.gain * neurons.norm.centre(write) / scale
            effects.append(self._worth(neurons.multiplier * block.with_gain(write, 0)))
        return torch.stack(effects, -1)

    def _touched(self, port: Port) -> Tensor:
        return self._mask(port, self.intervention.sites)

    def _mask(self, port: Port, sites: Sequence[Site]) -> Tensor:
        """Which entries of a port some sites cover, bool [window, P, entry]."""
        windows, positions = self.clean.tokens.shape
        here = [site for site in sites if site.port == port]
        entries = place_of(self.model, port).entries if here or port.kind == "heads" else 1
        mask = torch.zeros(windows, positions, entries, dtype=torch.bool, device=self.sigma.device)
        for site in here:
            for position in range(positions) if site.positions is None else site.positions:
                mask[:, position, slice(None) if site.entries is None else list(site.entries)] = True
        return self.clean.reading.at(mask)
