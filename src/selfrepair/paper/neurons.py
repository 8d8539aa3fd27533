"""Erasure neurons: the paper's Figures 7, 8 and 12 to 15 and section 4.2.2, for any downstream MLP."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch

from selfrepair.ablation.units import Head
from selfrepair.engine.clean import worth
from selfrepair.errors import SelfRepairError
from selfrepair.paper.corpus import Batch, Corpus
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.mlp_parts import Neurons, clean_output, find_neurons, last_with_downstream
from selfrepair.paper.neuron_sums import CARRIED, SORTED_TOKENS, NeuronSums
from selfrepair.paper.numbers import Number, Tally
from selfrepair.paper.picture import FAINT, PALETTE, Marks, Panel, Picture, Rule, symmetric
from selfrepair.paper.replayed import Replayed, Replayer
from selfrepair.paper.steadiness import CHANGE
from selfrepair.paper.words import FIXED
from selfrepair.results.runs import Run

SECTION = "neurons"
EFFECT, REPAIR, COUNTED = "top by the head's direct effect", "top by the MLP's repair", "as above, k counted with S"


@dataclass
class NeuronStudy:
    """What a pass over the corpus says about neurons.

    Attributes:
        about: model, text, tokens, documents, operator, for captions.
        heads: ablated heads.
        last: the MLP that the paper looks at.
        by_all: whether its tokens were chosen by the repair of all MLPs (the original recipe).
        sums: by (head, layer of the MLP, filter).
    """

    about: str
    heads: tuple[Head, ...]
    last: int
    by_all: bool = False
    sums: dict[tuple[Head, int, str], NeuronSums] = field(default_factory=dict)


def choose_heads(run: Run, corpus: Corpus, most: int = 4) -> list[Head]:
    """Heads below the last MLP whose top tokens lose most direct effect, in the last third of layers; the first is the
    one whose loss MLPs repair most (the paper's Figure 7)."""
    label = next((one for one in run.filters if one.startswith("top")), run.filters[0])
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
    others = [Head(*map(int, np.unravel_index(place, lost.shape))) for place in order]
    return [head, *(one for one in others if one != head and np.isfinite(lost[one]))][:most]


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
        fraction: of the tokens that filters pass.
        mlps: layers whose MLPs to look into; the last by default, and for the first head all downstream ones.
        operator: the ablation.

    Raises:
        SelfRepairError: a head without an MLP downstream, or an MLP without a layer of neurons.
    """
    wanted = tuple(Head(*head) for head in heads)
    anatomy = corpus.model.anatomy
    beyond = [str(head) for head in wanted if head.layer > last_with_downstream(corpus.model)]
    if beyond or not wanted:
        raise SelfRepairError(
            f"No MLP lies downstream of {', '.join(beyond) or 'nothing'}.", "Take a head of a lower layer."
        )
    last = anatomy.layers - 1
    layers = {head: list(mlps) if mlps is not None else [last] for head in wanted}
    if mlps is None:
        start = wanted[0].layer + (1 if anatomy.blocks[wanted[0].layer].parallel else 0)
        layers[wanted[0]] = list(range(start, last + 1))
    parts = {
        layer: find_neurons(corpus.model, layer)
        for layer in sorted({one for group in layers.values() for one in group})
    }
    limits = _thresholds(corpus, wanted, fraction, operator)
    scored = corpus.windows.scored(corpus.recipe.first)
    study = NeuronStudy(_about(corpus, scored, operator, fraction), wanted, last, corpus.recipe.by_all_mlps)
    replayer = Replayer(corpus.model)
    with corpus.model.running():
        for batch in corpus.batches():
            for head in wanted:
                chosen = {layer: parts[layer] for layer in layers[head]}
                _add(study, corpus, replayer, batch, head, chosen, limits[head], operator)
    return study


def _about(corpus: Corpus, scored: np.ndarray, operator: str, fraction: float) -> str:
    donors = " (donors: 1)" if operator == "resample" else ""
    kept = f"filters pass {100 * fraction:g}% of {corpus.described(scored)}"
    return f"{corpus.model.name} · {operator} ablation{donors} · {kept}"


def _ablate(
    corpus: Corpus, replayer: Replayer, batch: Batch, head: Head, parts: Mapping[int, Neurons], operator: str
) -> tuple[Replayed, Replayed]:
    modules = {layer: part.module for layer, part in parts.items()}
    in_place = corpus.replacement(operator, batch, head.layer)[:, :, head.head]
    before = replayer.run(batch.clean, head.layer, None, modules)
    return before, replayer.run(batch.clean, head.layer, {(head.layer, head.head): in_place}, modules)


def _repair_by_mlps(corpus: Corpus, batch: Batch, before: Replayed, after: Replayed) -> np.ndarray:
    """Repair on every prediction by the last MLP (by all of them, in the original recipe), [window, P]."""
    layers = list(after.mlp) if corpus.recipe.by_all_mlps else [corpus.model.anatomy.layers - 1]
    change = torch.stack([after.mlp[layer] - before.mlp[layer] for layer in layers]).sum(0)
    return np.asarray(worth(change, batch.clean.direction).cpu().numpy())


def _thresholds(corpus: Corpus, heads: Sequence[Head], fraction: float, operator: str) -> dict[Head, dict[str, float]]:
    """Thresholds of each head's filters, from a pass that keeps one number a token."""
    effects: dict[Head, list[np.ndarray]] = {head: [] for head in heads}
    repairs: dict[Head, list[np.ndarray]] = {head: [] for head in heads}
    replayer = Replayer(corpus.model)
    with corpus.model.running():
        for batch in corpus.batches():
            for head in heads:
                own = batch.clean.direct_effects(head.layer)[..., head.head].cpu().numpy()
                effects[head].append(own.astype(np.float32)[batch.scored])
                before, after = _ablate(corpus, replayer, batch, head, {}, operator)
                repairs[head].append(_repair_by_mlps(corpus, batch, before, after).astype(np.float32)[batch.scored])
    found = {}
    tokens = int(corpus.windows.scored(corpus.recipe.first).sum())
    counted = int(fraction * corpus.windows.tokens.size)
    for head in heads:
        own, repair = np.concatenate(effects[head]), np.concatenate(repairs[head])
        kept = max(1, int(fraction * tokens))
        found[head] = {EFFECT: _kth(own, kept), REPAIR: _kth(repair, kept)}
        if corpus.recipe.original:
            found[head][COUNTED] = _kth(own, min(max(1, counted), tokens))
    return found


def _kth(values: np.ndarray, kept: int) -> float:
    return float(np.partition(values, len(values) - kept)[len(values) - kept])


def _add(
    study: NeuronStudy,
    corpus: Corpus,
    replayer: Replayer,
    batch: Batch,
    head: Head,
    parts: Mapping[int, Neurons],
    limits: Mapping[str, float],
    operator: str,
) -> None:
    before, after = _ablate(corpus, replayer, batch, head, parts, operator)
    effect = batch.clean.direct_effects(head.layer)[..., head.head].cpu().numpy().astype(np.float32)
    values = {EFFECT: effect, COUNTED: effect}
    values[REPAIR] = _repair_by_mlps(corpus, batch, before, after).astype(np.float32)
    for name, limit in limits.items():
        mask = (values[name] >= limit) & batch.scored
        chosen = torch.from_numpy(mask).to(batch.clean.logit.device)
        window, position = np.nonzero(mask)
        where = {"window": batch.windows[window], "position": position, "document": batch.documents[mask]}
        for layer, part in parts.items():
            key = head, layer, name
            if key not in study.sums:
                study.sums[key] = NeuronSums(len(part.weight), corpus.recipe.shares, corpus.documents, corpus.seed)
            clean_input, input_after = before.neurons[layer], after.neurons[layer]
            output = clean_output(part, clean_input) if part.norm is not None else clean_input
            each = part.worth(batch.clean, output, chosen)
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


# ------------------------------------------------------------------------------------------------ its figures


def top_neurons(study: NeuronStudy) -> Exhibit:
    """The neuron of the last MLP that repairs most, token by token: clean against ablated (Figure 7)."""
    head = study.heads[0]
    sums = study.sums[head, study.last, REPAIR]
    table = pd.DataFrame(sums.points)
    x, y = (table[name].to_numpy() for name in ("clean", "ablated"))
    limits = symmetric([x, y])
    repairing = "MLPs repair" if study.by_all else "last MLP repairs"
    names = tuple(f"neuron {neuron}" for neuron in table["neuron"])
    marks = Marks(x, y, shade=table["layer_effect"].to_numpy(), names=names, size=4.2, opacity=0.85)
    rules = (Rule(1, label="unchanged: y = x"), Rule(0, colour=FAINT))
    panel = Panel(
        f"ablating {head}, MLP {study.last}",
        "clean direct effect of the neuron (logit)",
        "ablated direct effect (logit)",
        (marks,),
        rules,
        limits,
        limits,
    )
    caption = (
        f"Each point is a token on which the {repairing} most: the "
        "neuron of the last MLP that repairs most there. Left of zero it erases; above the dashed line it erases less "
        f"(anti-erasure). Colour: the whole MLP's clean direct effect, bias included. {study.about}. {FIXED}."
    )
    return Exhibit(
        "figure-07-top-neuron",
        "Figure 7, section 4.2.2",
        SECTION,
        "The neuron that repairs most",
        caption,
        table,
        tuple(sums.numbers(f"{head}, {REPAIR}")),
        Picture((panel,), columns=1, shade_label="clean DE of the MLP (logit)", diverging=True),
    )


def rank_curves(study: NeuronStudy) -> Exhibit:
    """On which share of tokens the r-th neuron repairs more than q of the head's direct effect (Figure 8)."""
    panels, rows, numbers = [], [], []
    for head in study.heads:
        sums = study.sums[head, study.last, EFFECT]
        shares = sums.exceeding()
        rank = np.arange(1, shares.shape[1] + 1)
        marks = tuple(
            Marks(rank.astype(float), shares[place], "line", f"{100 * share:g}% of DE", PALETTE[place])
            for place, share in enumerate(sums.shares)
        )
        panels.append(
            Panel(
                f"{head}, MLP {study.last}: {sums.neurons:,} neurons",
                "rank of the neuron",
                "share of tokens",
                marks,
                y_range=(-0.02, 1.02),
                x_range=(0.5, len(rank) + 0.5),
            )
        )
        numbers += sums.numbers(f"{head}, {EFFECT}")
        for place, share in enumerate(sums.shares):
            rows += [
                {"head": str(head), "share_of_DE": share, "rank": int(r), "share_of_tokens": float(v)}
                for r, v in zip(rank, shares[place], strict=True)
            ]
    caption = (
        "Share of tokens on which the neuron with the r-th largest repair makes up for more than a "
        "given share of the head's "
        f"direct effect; ranks, not neurons, are followed. {EFFECT}. {study.about}. {FIXED}."
    )
    return Exhibit(
        "figure-08-rank-curves",
        "Figure 8",
        SECTION,
        "A sparse set of neurons repairs",
        caption,
        pd.DataFrame(rows),
        tuple(numbers),
        Picture(tuple(panels), columns=2),
    )


def cumulative_change(study: NeuronStudy) -> Exhibit:
    """Cumulative absolute change by rank, coloured by the median clean direct effect (Figures 12 to 15)."""
    panels, rows, numbers = [], [], []
    for head in study.heads:
        name = COUNTED if (head, study.last, COUNTED) in study.sums else EFFECT
        sums = study.sums[head, study.last, name]
        curve, medians = sums.curve(), sums.medians()
        rank = np.arange(1, len(curve) + 1)
        shown = np.unique(
            np.concatenate([np.arange(min(60, len(rank))), np.linspace(0, len(rank) - 1, 400).astype(int)])
        )
        marks = Marks(
            rank[shown] / len(rank),
            curve[shown],
            shade=medians[shown],
            size=3.6,
            opacity=1.0,
            names=tuple(f"rank {r}" for r in rank[shown]),
        )
        negligible = sums.tally.share("negligible", f"{head}: share of neurons with negligible change")
        numbers += [
            negligible,
            Number(f"{head}: median clean DE of the top neuron", float(medians[0]), units="logit"),
            sums.top_ranks(f"{head}: share of the ten first ranks with negative median DE"),
            *(sums.tally.share(column, f"{head}: share of absolute change {said}") for column, said in CHANGE.items()),
        ]
        panels.append(
            Panel(
                f"{head}: {negligible.value:.0%} of {sums.neurons:,} negligible",
                "rank by signed change / neurons",
                "share of all absolute change",
                (marks,),
                y_range=(-0.02, 1.02),
            )
        )
        rows += [
            {"head": str(head), "rank": int(r), "cumulative_share": float(c), "median_clean_DE": float(m)}
            for r, c, m in zip(rank, curve, medians, strict=True)
        ]
    caption = (
        "Neurons of the last MLP sorted by signed change on each token, largest repair first: share "
        "of the summed absolute "
        "change up to a rank. The right end rises because there the most negative changes lie. "
        "Negligible: not among the "
        f"largest that carry {CARRIED:.0%} of all change. Medians over at most {SORTED_TOKENS} tokens. {study.about}."
    )
    return Exhibit(
        "figure-12-cumulative-change",
        "Figures 12–15",
        SECTION,
        "How many neurons change at all",
        caption,
        pd.DataFrame(rows),
        tuple(numbers),
        Picture(tuple(panels), columns=2, shade_label="median clean DE (logit)", diverging=True),
    )


def by_layer(study: NeuronStudy) -> Exhibit:
    """The same for every MLP downstream of the first head: repair, sparsity and cancellation by layer."""
    head = study.heads[0]
    layers = sorted(layer for one, layer, name in study.sums if one == head and name == EFFECT)
    quantities: dict[str, Callable[[Tally], Number]] = {
        "MLP's repair / direct effect of the head": lambda t: t.ratio("repair", "head"),
        "gross change Σ|d| / direct effect": lambda t: t.ratio("absolute", "head"),
        "effective number of neurons": lambda t: t.mean("effective"),
    }
    panels, rows = [], []
    for place, (said, of) in enumerate(quantities.items()):
        found = [of(study.sums[head, layer, EFFECT].tally) for layer in layers]
        values = np.array([one.value for one in found])
        error = np.nan_to_num(np.stack([values - [one.low for one in found], [one.high for one in found] - values]))
        marks = Marks(np.arange(len(layers), dtype=float), values, "bars", "", PALETTE[place], y_error=error)
        panels.append(
            Panel(said, "layer of the MLP", "", (marks,), (Rule(0, colour=FAINT),), categories=tuple(map(str, layers)))
        )
        rows += [
            {"head": str(head), "layer": layer, "quantity": said, "value": one.value, "low": one.low, "high": one.high}
            for layer, one in zip(layers, found, strict=True)
        ]
    caption = f"Every MLP downstream of {head}, {EFFECT}. {study.about}. Bars are 95% intervals over documents."
    return Exhibit(
        "section-4-by-layer",
        "Section 4",
        SECTION,
        "Neurons of every downstream MLP",
        caption,
        pd.DataFrame(rows),
        (),
        Picture(tuple(panels), columns=3),
    )
