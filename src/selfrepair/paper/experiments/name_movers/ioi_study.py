"""Name movers and their backups: who covers for whom when a model names the indirect object (section 5.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from selfrepair.ablation.interventions import each, together
from selfrepair.ablation.sites import Head, all_heads
from selfrepair.effects.ledger import Ledger
from selfrepair.effects.lines import LINES
from selfrepair.effects.readouts import LogitDifference
from selfrepair.engine.clean import CleanRun, clean_run, head_outputs, require_own_forward
from selfrepair.engine.replay import ReplayEngine
from selfrepair.model.language_model import LanguageModel
from selfrepair.paper.experiments.name_movers.ioi_prompts import IoiPrompts
from selfrepair.paper.inputs.recorded_replay import Replayer
from selfrepair.paper.numbers.over_documents import tally_of
from selfrepair.run.planning.batch_size import require_known_tokens

MOST_MOVERS = 5
LEAST_SHARE = 0.2  # of the largest head's direct effect, for a head to count as a name mover
BATCH = 32  # prompts
ALL_MOVERS = "all movers"


@dataclass(frozen=True)
class IoiStudy:
    """Logit differences and direct effects on prompts whose answer is a name.

    All effects are on `logit(indirect object) - logit(subject)` at the last token, in logits.

    Attributes:
        about: model, prompts and ablation, for captions.
        heads: every head of the model.
        movers: name movers, the strongest first.
        difference: [prompt], clean logit difference.
        effects: clean direct effects [prompt, head].
        ablated: logit differences [prompt] by what was ablated (`L9H6`, `all movers`).
        change: change of every head's direct effect [prompt, head] by what was ablated.
        parts: `lost`, `total` and the ledger's lines (`effects/lines.py`), [prompt] each, by what was ablated.
        moved: change of every head's direct effect when the stream that feeds the layer `source` is moved into the
            next one [prompt, head]; zero up to that layer.
        moved_difference: the logit difference then.
        source: the layer of the strongest mover that has a layer above it; the last but one if none has.
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
        """[prompt], the template, which counts as a document: prompts of one template are not independent."""
        return self.template


@dataclass(frozen=True)
class _Batch:
    """Some prompts: their clean run, read at each prompt's last token, and the heads' outputs on the corrupted ones."""

    clean: CleanRun
    donors: tuple[Tensor, ...]


def study_ioi(model: LanguageModel, prompts: IoiPrompts, most: int = MOST_MOVERS) -> IoiStudy:
    """Finds name movers by direct effect, ablates each and all of them with a corrupted twin's outputs (three fresh
    names), and moves the stream of one layer into the next.

    Args:
        model: the model.
        prompts: the prompts, from `make_prompts`.
        most: the most movers to find.
    """
    for given in (prompts.tokens, prompts.corrupted):
        require_known_tokens(given, model)
    heads = tuple(sorted(all_heads(model.anatomy)))
    groups = [np.arange(start, min(start + BATCH, len(prompts))) for start in range(0, len(prompts), BATCH)]
    with model.running():
        batches = [_measure_clean(model, prompts, group) for group in groups]
        effects = np.concatenate([_effects(batch.clean, heads) for batch in batches])
        movers = _movers(heads, effects, prompts, most)
        source = _source(model, movers)
        ledgers = [_ablate(model, batch, movers) for batch in batches]
        moved = [_move(model, batch.clean, heads, source) for batch in batches]
    difference = np.concatenate([_array(batch.clean.logit) for batch in batches])
    names = list(ledgers[0])
    parts = {name: _joined([_parts(by_name[name]) for by_name in ledgers]) for name in names}
    return IoiStudy(
        about=_about(model, prompts),
        heads=heads,
        movers=movers,
        difference=difference,
        effects=effects,
        ablated={name: difference + parts[name]["total"] for name in names},
        change={name: np.concatenate([_responses(by_name[name], heads) for by_name in ledgers]) for name in names},
        parts=parts,
        moved=np.concatenate([change for change, _ in moved]),
        moved_difference=np.concatenate([after for _, after in moved]),
        source=source,
        template=prompts.template,
        order=prompts.order,
    )


def _about(model: LanguageModel, prompts: IoiPrompts) -> str:
    return (
        f"{model.name} · {len(prompts)} prompts, {len(set(prompts.template.tolist()))} templates in both orders · "
        "ablation: outputs on the same template with three fresh names (ABC) · effects on the logit of the indirect "
        "object less that of the subject, at the last token · intervals over templates"
    )


def _measure_clean(model: LanguageModel, prompts: IoiPrompts, group: np.ndarray) -> _Batch:
    """The clean run of some prompts, proved to be the model's own on their real positions."""
    tokens, corrupted = (torch.from_numpy(ids[group]).to(model.device) for ids in (prompts.tokens, prompts.corrupted))
    end, right, wrong = (ids[group].tolist() for ids in (prompts.end, prompts.indirect, prompts.subject))
    readout = LogitDifference(tuple(end), tuple((name,) for name in right), tuple((name,) for name in wrong))
    clean = clean_run(model, tokens, readout.reading(model.anatomy, tokens))
    last = torch.tensor(end, device=model.device)[:, None]
    require_own_forward(model, clean, torch.arange(tokens.shape[1], device=model.device) <= last)
    return _Batch(clean, head_outputs(model, corrupted))


def _array(values: Tensor) -> np.ndarray:
    """The one prediction of each prompt, [prompt] float64 from [prompt, 1]."""
    return np.asarray(values[:, 0].double().cpu().numpy())


def _joined(batches: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


def _effects(clean: CleanRun, heads: Sequence[Head]) -> np.ndarray:
    """Clean direct effects [prompt, head]."""
    by_layer = [clean.direct_effects(layer) for layer in range(len(clean.head_outputs))]
    return np.stack([_array(by_layer[head.layer][..., head.head]) for head in heads], -1)


def _movers(heads: Sequence[Head], effects: np.ndarray, prompts: IoiPrompts, most: int) -> tuple[Head, ...]:
    """Heads with the largest mean direct effect: at least a fifth of the largest, and above zero over templates."""
    means = effects.mean(0)
    order = np.argsort(-means, kind="stable")[:most]
    chosen: list[Head] = []
    for index in order:
        number = tally_of(prompts.template, {"x": effects[:, index]}).mean("x")
        if not chosen or (means[index] >= LEAST_SHARE * means[order[0]] and number.low > 0):
            chosen.append(heads[index])
    return tuple(chosen)


def _source(model: LanguageModel, movers: Sequence[Head]) -> int:
    """The layer whose stream is moved: that of the strongest mover with a layer above it, else the last but one."""
    below = [head.layer for head in movers if head.layer < model.anatomy.layers - 1]
    return below[0] if below else model.anatomy.layers - 2


def _ablate(model: LanguageModel, batch: _Batch, movers: Sequence[Head]) -> dict[str, Ledger]:
    """Ledgers by what was ablated: each mover, and all of them together."""
    interventions = [*each(movers), together(ALL_MOVERS, movers)]
    ledgers = ReplayEngine(fold=1).sweep(
        model, batch.clean, interventions, lambda port: batch.donors[port.layer], per_component=True
    )
    by_name = {ledger.interventions[0].name: ledger for ledger in ledgers}
    return {intervention.name: by_name[intervention.name] for intervention in interventions}


def _parts(ledger: Ledger) -> dict[str, np.ndarray]:
    """The lost direct effect, the total effect and the ledger's lines, [prompt] each."""
    lost = ledger.direct_effect - ledger.ablated_direct_effect
    lines = {line.name: ledger.lines[line.name] for line in LINES}  # no curvature: a logit difference is linear
    amounts = {"lost": lost, "total": ledger.total_effect, **lines}
    return {name: _array(amount[0]) for name, amount in amounts.items()}


def _responses(ledger: Ledger, heads: Sequence[Head]) -> np.ndarray:
    """Change of every head's direct effect [prompt, head]; zero for those that are ablated."""
    assert ledger.by_head is not None
    return np.stack([_array(ledger.by_head[0, ..., head.layer, head.head]) for head in heads], -1)


def _move(model: LanguageModel, clean: CleanRun, heads: Sequence[Head], source: int) -> tuple[np.ndarray, np.ndarray]:
    """Puts the stream in front of `source` in front of the next layer: the layer's writes, biases included, are gone.

    Returns:
        Change of every head's direct effect [prompt, head], and the logit difference then [prompt].
    """
    above = range(source + 1, model.anatomy.layers)
    after = Replayer(model).run(clean, source + 1, stream=clean.residuals[source], keep_heads=above)
    change = np.zeros((len(clean.tokens), len(heads)))
    for column, head in enumerate(heads):
        if head.layer in after.heads:
            effects = clean.direct_effects(head.layer, after.heads[head.layer]) - clean.direct_effects(head.layer)
            change[:, column] = _array(effects[..., head.head])
    final = clean.reading.at(after.final)
    difference = (clean.u * final).sum(-1) / model.anatomy.final_norm.scale(final) + clean.beta
    return change, _array(difference)
