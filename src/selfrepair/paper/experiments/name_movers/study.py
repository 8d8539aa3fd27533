"""Name movers and their backups: who covers for whom when a model names the indirect object (section 5.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from selfrepair.ablation.sites import Head, all_heads
from selfrepair.engine.clean import CleanRun, clean_run, head_outputs, require_own_forward
from selfrepair.model.language_model import LanguageModel
from selfrepair.paper.experiments.name_movers.prompts import Prompts
from selfrepair.paper.inputs.recorded_replay import Replayed, Replayer
from selfrepair.paper.numbers.over_documents import tally_of
from selfrepair.run.planning.batch_size import require_known

MOST_MOVERS = 5
LEAST_SHARE = 0.2  # of the largest head's direct effect, for a head to count as a name mover
BATCH = 32  # prompts


@dataclass(frozen=True)
class IoiStudy:
    """Logit differences and direct effects on prompts whose answer is a name.

    All effects are on `logit(indirect object) - logit(subject)` at the last token, in logits.

    Attributes:
        about: for captions.
        heads: every head of the model.
        movers: name movers, the strongest first.
        difference: [prompt], clean logit difference.
        effects: clean direct effects [prompt, head].
        ablated: by what was ablated (`L9H6`, `all movers`), logit differences [prompt].
        change: by what was ablated, change of every head's direct effect [prompt, head].
        parts: by what was ablated, `lost, total, heads, mlps, norm` [prompt] each.
        moved: change of every head's direct effect when the stream that feeds the layer `source` is moved into the
            next one [prompt, head]; zero up to that layer.
        moved_difference: the logit difference then.
        source: the layer of the strongest mover that has a layer above it; the last but one where none has.
        template: [prompt]; order: [prompt].
    """

    about: str
    heads: tuple[Head, ...]
    movers: tuple[Head, ...]
    difference: np.ndarray
    effects: np.ndarray
    ablated: dict[str, np.ndarray]
    change: dict[str, np.ndarray]
    parts: dict[str, dict[str, np.ndarray]]
    moved: np.ndarray
    moved_difference: np.ndarray
    source: int
    template: np.ndarray
    order: np.ndarray

    @property
    def cluster(self) -> np.ndarray:
        """[prompt], what counts as a document: prompts of one template are not independent."""
        return self.template


@dataclass(frozen=True)
class _Reading:
    """Directions that read the logit difference at the last token of each prompt."""

    clean: CleanRun
    end: Tensor
    u: Tensor  # [prompt, width]
    beta: Tensor
    sigma: Tensor
    by_layer: tuple[Tensor, ...]  # [prompt, head, head_dim]


def study_ioi(model: LanguageModel, prompts: Prompts, most: int = MOST_MOVERS) -> IoiStudy:
    """Finds name movers by direct effect, ablates each and all of them with a corrupted twin's outputs (three fresh
    names), and moves the stream of one layer into the next.

    Args:
        model: the model.
        prompts: from `prompts.make_prompts`.
        most: how many movers at most.
    """
    for given in (prompts.tokens, prompts.corrupted):
        require_known(given, model)
    heads = tuple(sorted(all_heads(model.anatomy)))
    replayer = Replayer(model)
    groups = [np.arange(start, min(start + BATCH, len(prompts))) for start in range(0, len(prompts), BATCH)]
    with model.running():
        clean = [_measure_clean(model, prompts, group) for group in groups]
        effects = np.concatenate([_effects(reading, heads) for reading, _ in clean])
        difference = np.concatenate([_difference(model, reading, None) for reading, _ in clean])
        movers = _movers(heads, effects, prompts, most)
        ablations = {str(head): (head,) for head in movers} | {"all movers": movers}
        found: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in ablations}
        moved: list[dict[str, np.ndarray]] = []
        source = _source(model, movers)
        for reading, donors in clean:
            for name, chosen in ablations.items():
                found[name].append(_ablated(model, replayer, reading, donors, chosen, heads))
            moved.append(_move(model, replayer, reading, heads, source))
    joined = {
        name: {key: np.concatenate([one[key] for one in parts]) for key in parts[0]} for name, parts in found.items()
    }
    kept = ("lost", "total", "heads", "mlps", "norm")
    return IoiStudy(
        about=f"{model.name} · {len(prompts)} prompts, {len(set(prompts.template.tolist()))} "
        "templates in both orders · "
        "ablation: outputs on the same template with three fresh names (ABC) · effects on the logit "
        "of the indirect object "
        "less that of the subject, at the last token · intervals over templates",
        heads=heads,
        movers=movers,
        difference=difference,
        effects=effects,
        ablated={name: parts["difference"] for name, parts in joined.items()},
        change={name: parts["change"] for name, parts in joined.items()},
        parts={name: {key: parts[key] for key in kept} for name, parts in joined.items()},
        moved=np.concatenate([one["change"] for one in moved]),
        moved_difference=np.concatenate([one["difference"] for one in moved]),
        source=source,
        template=prompts.template,
        order=prompts.order,
    )


def _measure_clean(model: LanguageModel, prompts: Prompts, group: np.ndarray) -> tuple[_Reading, tuple[Tensor, ...]]:
    tokens = torch.from_numpy(prompts.tokens[group]).to(model.device)
    clean = clean_run(model, tokens)
    donors = head_outputs(model, torch.from_numpy(prompts.corrupted[group]).to(model.device))
    end = torch.from_numpy(prompts.end[group]).to(model.device)
    require_own_forward(model, clean, torch.arange(tokens.shape[1], device=end.device) <= end[:, None])
    readout, norm = model.anatomy.readout, model.anatomy.final_norm
    pair = [torch.from_numpy(names[group]).to(model.device) for names in (prompts.indirect, prompts.subject)]
    rows = readout.weight[pair[0]] - readout.weight[pair[1]]
    beta = (rows * norm.bias).sum(-1)
    if readout.bias is not None:
        beta = beta + readout.bias[pair[0]] - readout.bias[pair[1]]
    u, beta = readout.multiplier * norm.fold(rows), readout.multiplier * beta
    final = _at(Replayer(model).run(clean, model.anatomy.layers - 1).final, end)
    sigma = norm.scale(final)
    by_layer = []
    for layer, block in enumerate(model.anatomy.blocks):
        inward = block.through_norm(u / sigma.unsqueeze(-1))
        if block.attention_norm is not None:
            written = block.projection(block.join_heads(clean.head_outputs[layer]))
            inward = inward / block.attention_norm.scale(_at(written, end)).unsqueeze(-1)
        by_layer.append(torch.einsum("bd,hed->bhe", inward, block.output_weight))
    return _Reading(clean, end, u, beta, sigma, tuple(by_layer)), donors


def _at(values: Tensor, end: Tensor) -> Tensor:
    """Entries at each prompt's last token, [prompt, ...] from [prompt, position, ...]."""
    return values[torch.arange(len(end), device=values.device), end]


def _heads_of(reading: _Reading, outputs: Mapping[int, Tensor], heads: Sequence[Head]) -> np.ndarray:
    """Direct effects of heads [prompt, head] from layers' outputs."""
    worth = {layer: (_at(value, reading.end) * reading.by_layer[layer]).sum(-1) for layer, value in outputs.items()}
    return torch.stack([worth[head.layer][:, head.head] for head in heads], -1).double().cpu().numpy()


def _effects(reading: _Reading, heads: Sequence[Head]) -> np.ndarray:
    return _heads_of(reading, dict(enumerate(reading.clean.head_outputs)), heads)


def _difference(model: LanguageModel, reading: _Reading, final: Tensor | None) -> np.ndarray:
    """Logit difference [prompt] from the final stream; the clean one by default."""
    return np.asarray(_scaled_difference(model, reading, final) + reading.beta.double().cpu().numpy())


def _scaled_difference(model: LanguageModel, reading: _Reading, final: Tensor | None) -> np.ndarray:
    """The same without the part that no scale divides: effects are taken from this one."""
    if final is None:
        final = Replayer(model).run(reading.clean, model.anatomy.layers - 1).final
    last = _at(final, reading.end)
    value = (reading.u * last).sum(-1) / model.anatomy.final_norm.scale(last)
    return np.asarray(value.double().cpu().numpy())


def _movers(heads: Sequence[Head], effects: np.ndarray, prompts: Prompts, most: int) -> tuple[Head, ...]:
    """Heads with the largest mean direct effect: at least a fifth of the largest, and above zero over templates."""
    means = effects.mean(0)
    order = np.argsort(-means, kind="stable")[:most]
    chosen: list[Head] = []
    for place in order:
        number = tally_of(prompts.template, {"x": effects[:, place]}).mean("x")
        if not chosen or (means[place] >= LEAST_SHARE * means[order[0]] and number.low > 0):
            chosen.append(heads[place])
    return tuple(chosen)


def _source(model: LanguageModel, movers: Sequence[Head]) -> int:
    """The layer whose stream is moved: that of the strongest mover with a layer above it, else the last but one."""
    below = [head.layer for head in movers if head.layer < model.anatomy.layers - 1]
    return below[0] if below else model.anatomy.layers - 2


def _ablated(
    model: LanguageModel,
    replayer: Replayer,
    reading: _Reading,
    donors: tuple[Tensor, ...],
    chosen: Sequence[Head],
    heads: Sequence[Head],
) -> dict[str, np.ndarray]:
    clean = reading.clean
    start = min(head.layer for head in chosen)
    above = range(start, model.anatomy.layers)
    in_place = {(head.layer, head.head): donors[head.layer][:, :, head.head] for head in chosen}
    before = replayer.run(clean, start, keep_heads=above)
    after = replayer.run(clean, start, in_place, keep_heads=above)
    change = _change(reading, before, after, heads)
    own = [list(heads).index(head) for head in chosen]
    lost = -change[:, own].sum(1)
    others = change.copy()
    others[:, own] = 0
    direction = reading.u / reading.sigma.unsqueeze(-1)
    mlps = sum((_at(after.mlp[layer] - before.mlp[layer], reading.end) * direction).sum(-1) for layer in after.mlp)
    assert isinstance(mlps, Tensor)
    scaled, was = (_scaled_difference(model, reading, run.final) for run in (after, before))
    scale = model.anatomy.final_norm.scale(_at(after.final, reading.end))
    norm = (1 - (scale / reading.sigma).double().cpu().numpy()) * scaled
    return {
        "difference": scaled + reading.beta.double().cpu().numpy(),
        "change": others,
        "lost": lost,
        "total": scaled - was,
        "heads": others.sum(1),
        "mlps": mlps.double().cpu().numpy(),
        "norm": norm,
    }


def _change(reading: _Reading, before: Replayed, after: Replayed, heads: Sequence[Head]) -> np.ndarray:
    """Change of every head's direct effect [prompt, head]; zero below the lowest block that ran."""
    found = np.zeros((len(reading.end), len(heads)))
    ran = [place for place, head in enumerate(heads) if head.layer in after.heads]
    some = [heads[place] for place in ran]
    found[:, ran] = _heads_of(reading, after.heads, some) - _heads_of(reading, before.heads, some)
    return found


def _move(
    model: LanguageModel, replayer: Replayer, reading: _Reading, heads: Sequence[Head], source: int
) -> dict[str, np.ndarray]:
    """The stream in front of `source` put in front of the next layer: that layer's writes, biases and all, are gone."""
    above = range(source + 1, model.anatomy.layers)
    before = replayer.run(reading.clean, source + 1, keep_heads=above)
    after = replayer.run(reading.clean, source + 1, stream=reading.clean.residuals[source], keep_heads=above)
    change = _change(reading, before, after, heads)
    return {"change": change, "difference": _difference(model, reading, after.final)}
