"""Ledgers of models with mixers and MLPs of several parts, from plain Hugging Face forwards under plain hooks.

Of the package only its modules and multipliers are used; that the writes they name change by what the final stream
changes by is asserted on every run. Everything is float64.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache

import pytest
import transformers
from torch import Tensor

from census.forwards import logits, plainly
from census.recording import recorded_version
from census.small import NotBuilt, build
from selfrepair import Head, load
from selfrepair.ablation.sites import Mixer, Mlp, MlpPart, Site
from selfrepair.model.language_model import LanguageModel

HYBRIDS = ("lfm2", "falcon_h1", "granitemoehybrid", "nemotron_h", "gemma4_text", "qwen3_next")


@cache
def hybrid(entry: str) -> LanguageModel:
    """A model of the census; other versions of transformers than the recorded one may not have it."""
    try:
        return load(build(entry))
    except NotBuilt as reason:
        if transformers.__version__ == recorded_version():
            raise
        pytest.skip(str(reason))


def sites_of(model: LanguageModel) -> list[Site]:
    """All components, by layer; written down here from what blocks have."""
    sites: list[Site] = []
    for layer, block in enumerate(model.anatomy.blocks):
        sites += [Head(layer, head) for head in range(block.heads)]
        sites += [Mixer(layer)] if block.has_mixer else []
        parts = len(block.mlps)
        sites += [Mlp(layer)] if parts == 1 else [MlpPart(layer, part) for part in range(parts)]
    return sites


class Run:
    """One forward on one text, whose last position is read.

    Args:
        model: the model.
        tokens: int [position].
        weights: what is read of the logits: their sum with these weights, [vocabulary].
        put: what components put out instead, [position, width or head size].

    Attributes:
        computed: what each component would write, before anything is put in its place, [position, width or head size].
        value: what is read, before any cap.
        final: the final stream where the answer is read [width].
        normed: the same behind the final norm.
        attention: by layer, what attention's projection and its last module put out there.
    """

    def __init__(self, model: LanguageModel, tokens: Tensor, weights: Tensor, put: dict[Site, Tensor] | None = None):
        self.model, self.place, self.put = model, len(tokens) - 1, put or {}
        self.computed: dict[Site, Tensor] = {}
        self.attention: dict[int, list[Tensor]] = {}
        norm = model.anatomy.final_norm_module
        handles = [norm.register_forward_hook(self._keep_final)]
        for layer, block in enumerate(model.anatomy.blocks):
            if block.heads:
                handles.append(block.projection.register_forward_pre_hook(self._heads(layer, block.heads)))
                self.attention[layer] = []
                for module in (block.projection, block.attention_write):
                    handles.append(module.register_forward_hook(self._keep_attention(layer)))
            if block.has_mixer:
                handles.append(block.mixer_write.register_forward_hook(self._whole(Mixer(layer))))
            for part, (module, _) in enumerate(block.mlps):
                site = Mlp(layer) if len(block.mlps) == 1 else MlpPart(layer, part)
                handles.append(module.register_forward_hook(self._whole(site)))
        with plainly():
            out = logits(model.network, tokens[None])[0, -1]
        for handle in handles:
            handle.remove()
        self.value = float(weights @ out)
        self.along = weights @ model.network.get_output_embeddings().weight.detach()

    def _keep_final(self, _module, args, out) -> None:
        self.final, self.normed = args[0].reshape(-1, args[0].shape[-1])[-1], out.reshape(-1, out.shape[-1])[-1]

    def _keep_attention(self, layer):
        def keep(_module, _args, out):
            out = out[0] if isinstance(out, tuple) else out
            self.attention[layer].append(out.reshape(-1, out.shape[-1])[self.place].clone())

        return keep

    def _heads(self, layer, number):
        def swap(_module, args):
            value = args[0].clone()
            parts = value.view(-1, number, value.shape[-1] // number)
            for head in range(number):
                site = Head(layer, head)
                self.computed[site] = parts[:, head].clone()
                if site in self.put:
                    parts[:, head] = self.put[site]  # broadcast
            return (value, *args[1:])

        return swap

    def _whole(self, site):
        def swap(_module, _args, out):
            value = out[0] if isinstance(out, tuple) else out
            self.computed[site] = value.reshape(-1, value.shape[-1]).clone()
            if site not in self.put:
                return None
            changed = self.put[site].reshape(value.shape)
            return (changed, *out[1:]) if isinstance(out, tuple) else changed

        return swap

    def written(self, site: Site) -> Tensor:
        """What arrived in the model of a component."""
        return self.put.get(site, self.computed[site])


def freezing(clean: Run, sites: Iterable[Site]) -> dict[Site, Tensor]:
    return {site: clean.computed[site] for site in sites}


def worth(clean: Run, site: Site, value: Tensor) -> float:
    """What a component's output is worth at clean scales; the model's own norms say what these are."""
    block = clean.model.anatomy.blocks[site.port.layer]
    write = value[clean.place]
    if isinstance(site, Head):
        size = write.shape[0]
        write = block.projection.weight.detach()[:, site.head * size : (site.head + 1) * size] @ write
        if block.attention_norm is not None:
            projected, normed = clean.attention[site.layer]
            write = write * normed / projected
        write = write * block.attention_multiplier
    elif isinstance(site, Mixer):
        write = write * block.mixer_multiplier
    else:
        write = write * block.mlps[getattr(site, "part", 0)][1]
    scale = clean.value / float(clean.along @ clean.normed)  # of the model's logits
    return scale * float(clean.along @ (write * clean.normed / clean.final))


def lines(clean: Run, after: Run, gone: Collection[Site]) -> dict[Site, float]:
    """What every component that is not held or replaced writes more, in logits."""
    return {
        site: 0.0
        if site in gone
        else worth(clean, site, after.written(site)) - worth(clean, site, clean.computed[site])
        for site in clean.computed
    }
