"""Erasure neurons (section 4.2.2): passes over the corpus for any downstream MLP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from selfrepair.ablation.sites import Head
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.neurons import Neurons
from selfrepair.paper.experiments.neurons.neuron_sums import NeuronSums
from selfrepair.paper.inputs.corpus import CleanBatch, Corpus
from selfrepair.paper.inputs.recorded_replay import Replayed, Replayer
from selfrepair.paper.pictures.exhibit_captions import passing
from selfrepair.results.filter_labels import resolve_filter
from selfrepair.results.runs import Run

EFFECT, REPAIR, COUNTED = "top by the head's direct effect", "top by the MLP's repair", "as above, k counted with S"


@dataclass
class NeuronStudy:
    """Sums over neurons from a pass over the corpus.

    Attributes:
        about: model and operator, for captions.
        corpus: tokens, documents, text and recipe, for captions.
        heads: ablated heads.
        by_all: whether tokens were chosen by the repair of all MLPs (the original recipe), not by that of the MLP
            studied.
        fraction: share of the tokens that filters pass.
        sums: sums by (head, layer of the MLP, filter).
    """

    about: str
    corpus: str
    heads: tuple[Head, ...]
    by_all: bool = False
    fraction: float = 0.02
    sums: dict[tuple[Head, int, str], NeuronSums] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """The last MLP that was studied: the paper's."""
        return max(layer for _, layer, _ in self.sums)

    def layers(self, head: Head) -> list[int]:
        """The MLPs that were studied for a head."""
        return sorted({layer for studied, layer, _ in self.sums if studied == head})

    def of(self, filter: str, layer: int | None, heads: Sequence[Head]) -> tuple[int, dict[Head, NeuronSums]]:
        """A layer, by default the last, with the sums of the heads for which its MLP was studied.

        Raises:
            SelfRepairError: it was studied for none of them.
        """
        chosen = self.last if layer is None else layer
        by_head = {head: self.sums[head, chosen, filter] for head in heads if (head, chosen, filter) in self.sums}
        if by_head:
            return chosen, by_head
        known = "; ".join(f"{', '.join(map(str, self.layers(head)))} for {head}" for head in heads)
        raise SelfRepairError(
            f"Expected an MLP that was studied ({known}), got that of layer {chosen}.",
            f"Take one of those, or study it if it lies downstream: study_neurons(..., mlps=[{chosen}]).",
        )

    def passing(self, filter: str, sums: Iterable[NeuronSums]) -> str:
        """Filter, tokens and documents, for captions."""
        tallies = [head_sums.tally for head_sums in sums]
        return f"{self.about} · {passing(f'{100 * self.fraction:g}% of tokens, {filter}', tallies, self.corpus)}"


def last_with_downstream(model: LanguageModel) -> int:
    """The last layer whose heads have an MLP downstream."""
    layers: int = model.anatomy.layers
    return layers - (2 if model.anatomy.blocks[-1].parallel else 1)


def choose_repaired(run: Run, corpus: Corpus, most: int = 4) -> list[Head]:
    """Heads below the last MLP whose top tokens lose most direct effect, in the last third of layers; the first is the
    one whose loss MLPs repair most (the paper's Figure 7)."""
    label = resolve_filter(run, None)
    part = run.heads.sel(filter=label)
    last = last_with_downstream(corpus.model)
    layers = part.sizes["layer"]
    first = min(last, max(0, layers - max(2, layers // 3)))
    lost = np.full(part["lost_direct_effect"].shape, np.nan)
    lost[first : last + 1] = part["lost_direct_effect"].values[first : last + 1]
    repair = np.where(np.isfinite(lost), part["repair_mlps"].values, np.nan)
    if not np.isfinite(lost).any():
        return []
    head = Head(*map(int, np.unravel_index(np.nanargmax(repair), repair.shape)))
    order = np.argsort(-np.nan_to_num(lost, nan=-np.inf), axis=None, kind="stable")
    others = [Head(*map(int, np.unravel_index(index, lost.shape))) for index in order]
    return [head, *(other for other in others if other != head and np.isfinite(lost[other]))][:most]


def study_neurons(
    corpus: Corpus,
    heads: Sequence[tuple[int, int]],
    fraction: float = 0.02,
    mlps: Sequence[int] | None = None,
    operator: str = "resample",
) -> NeuronStudy:
    """Two passes over the corpus: thresholds, then neurons of the tokens that pass them.

    Args:
        corpus: model, text and recipe.
        heads: (layer, head) pairs, each below some MLP.
        fraction: share of the tokens that filters pass.
        mlps: layers whose MLPs to study; the last by default, and for the first head all downstream ones.
        operator: the ablation.

    Raises:
        SelfRepairError: a head without an MLP downstream, an MLP that does not lie downstream of every head, or one
            without a layer of neurons.
    """
    wanted = tuple(Head(*head) for head in heads)
    anatomy = corpus.model.anatomy
    beyond = [str(head) for head in wanted if head.layer > last_with_downstream(corpus.model)]
    if beyond or not wanted:
        raise SelfRepairError(
            f"No MLP lies downstream of {', '.join(beyond) or 'nothing'}.", "Take a head of a lower layer."
        )
    last = anatomy.layers - 1
    below = {head: list(range(head.layer + anatomy.blocks[head.layer].parallel, last + 1)) for head in wanted}
    layers = {head: _downstream(mlps, head, below[head]) if mlps is not None else [last] for head in wanted}
    if mlps is None:
        layers[wanted[0]] = below[wanted[0]]
    parts = {
        layer: corpus.model.neurons(layer) for layer in sorted({layer for group in layers.values() for layer in group})
    }
    limits = _thresholds(corpus, layers, fraction, operator)
    scored = corpus.windows.scored(corpus.recipe.first)
    donors = " (donors: 1)" if operator == "resample" else ""
    about = f"{corpus.model.name} · {operator} ablation{donors}"
    study = NeuronStudy(about, corpus.described(scored), wanted, corpus.recipe.by_all_mlps, fraction)
    replayer = Replayer(corpus.model)
    with corpus.model.running():
        for batch in corpus.batches():
            for head in wanted:
                chosen = {layer: parts[layer] for layer in layers[head]}
                _add(study, corpus, replayer, batch, head, chosen, limits, operator)
    return study


def _downstream(mlps: Sequence[int], head: Head, below: Sequence[int]) -> list[int]:
    """The MLPs asked for, all of which have to lie downstream of the head."""
    wrong = [str(layer) for layer in mlps if layer not in below]
    if wrong or not mlps:
        raise SelfRepairError(
            f"Expected MLPs downstream of {head}, layers {below[0]} to {below[-1]}, got {', '.join(wrong) or 'none'}.",
            "Take layers from that range, or a head of a lower layer.",
        )
    return sorted(set(mlps))


def _ablate(
    corpus: Corpus, replayer: Replayer, batch: CleanBatch, head: Head, parts: Mapping[int, Neurons], operator: str
) -> tuple[Replayed, Replayed]:
    modules = {layer: part.module for layer, part in parts.items()}
    in_place = corpus.replacement(operator, batch, head.layer)[:, :, head.head]
    before = replayer.run(batch.clean, head.layer, None, modules)
    return before, replayer.run(batch.clean, head.layer, {(head.layer, head.head): in_place}, modules)


def _repair(corpus: Corpus, batch: CleanBatch, before: Replayed, after: Replayed, layer: int) -> np.ndarray:
    """Repair on every prediction by one MLP (by all of them, in the original recipe), float32 [window, P]."""
    layers = list(after.mlp) if corpus.recipe.by_all_mlps else [layer]
    change = torch.stack([after.mlp[above] - before.mlp[above] for above in layers]).sum(0)
    return np.asarray(batch.clean.worth(change, batch.clean.direction).cpu().numpy().astype(np.float32))


def _thresholds(
    corpus: Corpus, layers: Mapping[Head, Sequence[int]], fraction: float, operator: str
) -> dict[tuple[Head, int], dict[str, float]]:
    """Thresholds of the filters of each head and MLP, from a pass that keeps only the largest values."""
    tokens = int(corpus.windows.scored(corpus.recipe.first).sum())
    kept = max(1, int(fraction * tokens))
    counted = min(max(1, int(fraction * corpus.windows.tokens.size)), tokens)
    none = np.empty(0, np.float32)
    effects = dict.fromkeys(layers, none)
    repairs = {(head, layer): none for head in layers for layer in layers[head]}
    replayer = Replayer(corpus.model)
    with corpus.model.running():
        for batch in corpus.batches():
            for head in layers:
                own = batch.clean.direct_effects(head.layer)[..., head.head].cpu().numpy().astype(np.float32)
                effects[head] = _largest(effects[head], own[batch.scored], max(kept, counted))
                before, after = _ablate(corpus, replayer, batch, head, {}, operator)
                for layer in layers[head]:
                    repair = _repair(corpus, batch, before, after, layer)[batch.scored]
                    repairs[head, layer] = _largest(repairs[head, layer], repair, kept)
    thresholds = {
        (head, layer): {EFFECT: effects[head][-kept], REPAIR: values[0]} for (head, layer), values in repairs.items()
    }
    if corpus.recipe.original:
        for (head, _), limits in thresholds.items():
            limits[COUNTED] = effects[head][-counted]
    return thresholds


def _largest(kept: np.ndarray, more: np.ndarray, most: int) -> np.ndarray:
    """The `most` largest of both, smallest first."""
    return np.sort(np.concatenate([kept, more]))[-most:]


def _add(
    study: NeuronStudy,
    corpus: Corpus,
    replayer: Replayer,
    batch: CleanBatch,
    head: Head,
    parts: Mapping[int, Neurons],
    limits: Mapping[tuple[Head, int], Mapping[str, float]],
    operator: str,
) -> None:
    before, after = _ablate(corpus, replayer, batch, head, parts, operator)
    effect = batch.clean.direct_effects(head.layer)[..., head.head].cpu().numpy().astype(np.float32)
    for layer, part in parts.items():
        values = {EFFECT: effect, COUNTED: effect, REPAIR: _repair(corpus, batch, before, after, layer)}
        clean_input, input_after = before.neurons[layer], after.neurons[layer]
        output = part.output(clean_input)[:, :-1]
        for name, limit in limits[head, layer].items():
            mask = (values[name] >= limit) & batch.scored
            chosen = torch.from_numpy(mask).to(batch.clean.sigma.device)
            window, position = np.nonzero(mask)
            where = {"window": batch.windows[window], "position": position, "document": batch.documents[mask]}
            key = head, layer, name
            if key not in study.sums:
                study.sums[key] = NeuronSums(len(part.weight), corpus.recipe.shares, corpus.documents, corpus.seed)
            each = part.worth(batch.clean.direction[chosen], output[chosen])
            clean = each * clean_input[:, :-1][chosen]
            change = each * (input_after[:, :-1][chosen] - clean_input[:, :-1][chosen])
            layer_effect = batch.clean.mlps[layer][chosen]
            study.sums[key].add(
                clean.double().cpu().numpy(),
                change.double().cpu().numpy(),
                effect[mask].astype(np.float64),
                layer_effect.double().cpu().numpy(),
                where,
            )
