"""A made-up run whose numbers look like a model's: few heads matter, later layers repair more."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from selfrepair.results.dataset import heads_dataset
from selfrepair.results.intervention_axis import cells_of_heads
from selfrepair.results.runs import Run
from selfrepair.statistics.accumulate import DocumentSums, TokenEffects
from selfrepair.statistics.bootstrap import bootstrap_all, bootstrap_filtered, document_weights, effective_documents
from selfrepair.statistics.component_lines import Lines, TextLines
from selfrepair.statistics.curves import CurveMoments, bin_edges
from selfrepair.statistics.features import FEATURES, INDEX, features
from selfrepair.statistics.filters import DEFAULT_FILTERS, Filter, all_thresholds, scores_of
from selfrepair.statistics.intervals import Replicated
from selfrepair.statistics.keep import TOKEN_SCHEMA, KeptTokens, in_sample, token_table, uniform_sample
from selfrepair.statistics.keep_limits import keep_thresholds, near_limits
from selfrepair.statistics.summary import Summariser

REPLICATES, BINS = 100, 5
EFFECTS = {"layers", "heads", "windows", "positions", "skip", "post_norms", "seed"}  # settings of `made_effects`

ATTRIBUTES = {
    "title": "selfrepair of every head",
    "operator": "resample",
    "donors": "1 from other documents, seed 0",
    "model": "SmolLM2-135M-Instruct",
    "text": "builtin",
    "engine": "replay",
    "dtype": "float32",
    "precision": "bfloat16 on file, measured in float32",
    "numerical_floor": 3.2e-6,
    "ledger_residual": 1.1e-6,
    "first_position": 1,
    "status": "complete",
    "resumed": False,
    "seeds": [0, 1],
    "note": None,
}


@dataclass
class Made:
    """Effects of a whole sweep, one chunk per layer; every window is one document."""

    chunks: list[TokenEffects]
    survey: np.ndarray  # clean direct effects of all heads [layer, head, scored token], measured or not
    tokens: np.ndarray
    scored: np.ndarray
    filters: tuple[Filter, ...] = DEFAULT_FILTERS

    @property
    def documents(self):
        return np.broadcast_to(np.arange(len(self.scored))[:, None], self.scored.shape)

    @property
    def names(self):
        return [f"corpus.jsonl:{number}" for number in range(len(self.scored))]

    @property
    def shape(self):
        return self.survey.shape[:2]

    @property
    def thresholds(self):
        return all_thresholds(self.filters, self.survey)

    @property
    def weights(self):
        """The corpus as it is, and its replicates."""
        drawn = document_weights(len(self.scored), REPLICATES)
        return np.concatenate([np.ones((1, len(self.scored)), drawn.dtype), drawn])


def made_effects(
    layers=3, heads=4, windows=6, positions=20, skip=(), post_norms=False, seed=0, filters=DEFAULT_FILTERS
):
    """Effects of a sweep; `skip` holds (layer, head) that were never measured."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 500, (windows, positions + 1))
    scored = np.ones((windows, positions), bool)
    scored[:, 0] = False
    size = 0.02 * np.exp(rng.normal(0, 1.3, (layers, heads, 1, 1))) * rng.choice([1, 1, 1, -1], (layers, heads, 1, 1))
    shape = (layers, heads, windows, positions)
    spikes = np.exp(rng.normal(0, 1.0, shape) + 0.3 * rng.normal(0, 1, (1, 1, windows, 1)))
    effect = (size * spikes + rng.normal(0, 0.03, shape)).astype(np.float32)
    chunks = []
    for layer in range(layers):
        measured = np.array([head for head in range(heads) if (layer, head) not in skip], int)
        if len(measured):
            chunks.append(token_effects(rng, layer, measured, effect[layer][measured], layers, heads, post_norms))
    return Made(chunks, effect[:, :, scored], tokens, scored, filters)


def made_run(*sizes, components="heads", **settings):
    """A whole run; other settings are those of `made_effects`, and what is none of these is an attribute."""
    effects = {name: settings.pop(name) for name in EFFECTS & set(settings)}
    return run_of(made_effects(*sizes, **effects), components, effects.get("seed", 0), **settings)


def run_of(made, components="heads", seed=0, **attributes):
    """The run that merging would make of these effects."""
    rows, summariser, short = kept_rows(made), Summariser(), []
    everything = document_sums(made)
    for layer in range(made.shape[0]):
        summariser.add(layer_sums(made, layer, everything[:, layer], rows.get(layer), short))
    edges = bin_edges(made.survey, BINS)
    said = ATTRIBUTES | {"tokens": int(made.scored.sum()), "documents": len(made.scored)}
    said |= {"inexact_replicates": max(short, default=0.0)} | attributes
    heads = heads_dataset(
        summariser.summary(),
        filters=[one.label for one in made.filters],
        thresholds=made.thresholds,
        lines=None if components == "none" else component_lines(made, components),
        curve=curve(made, edges),
        edges=edges,
        donor_split=None,
        donors_needed=None,
        cells=cells_of_heads([made.shape[1]] * made.shape[0]),
        attributes=said,
    )
    nothing = {name: np.zeros(0, np.int32) for name in TOKEN_SCHEMA.names}
    tables = [token_table(one, made.names, made.filters) for one in (rows or {0: nothing}).values()]
    outcome = {name: said[name] for name in ("status", "numerical_floor", "ledger_residual")}
    plan = {"model": said["model"], "seed": np.int64(seed)}
    return Run(plan, outcome, heads, pa.concat_tables(tables).unify_dictionaries(), windows_table(made))


def document_sums(made):
    """Features summed over the scored tokens of each document, [document, layer, head, feature]."""
    sums = np.zeros((len(made.scored), *made.shape, len(FEATURES)))
    for chunk in made.chunks:
        found = features(chunk.quantities)[:, :, made.scored[0]].sum(2)  # every window has the same scored positions
        sums[:, chunk.layer, chunk.heads] = np.moveaxis(found, 0, 1)
    return sums


def kept_rows(made):
    """Kept tokens of each layer that has any, by column."""
    limits = keep_thresholds(made.filters, made.survey, made.documents[made.scored])
    numbers = np.arange(len(made.scored))
    sampled = in_sample(uniform_sample(made.scored, 9), numbers, made.scored.shape[1])
    kept = KeptTokens(made.filters, limits, made.tokens, made.documents, made.scored, sampled, numbers)
    for chunk in made.chunks:
        kept.add(chunk)
    found = kept.arrays()
    return {
        layer: {name.split("/")[2]: values for name, values in found.items() if name.startswith(f"rows/{layer}/")}
        for layer in sorted({int(name.split("/")[1]) for name in found})
    }


def layer_sums(made, layer, everything, rows, short):
    """A layer's sums over [filter, head] with their replicates, the filter applied anew in each."""
    cells = len(made.filters), made.shape[1]
    found = np.zeros((REPLICATES + 1, *cells, len(FEATURES)))
    documents, effective = np.zeros(cells, np.int64), np.zeros(cells)
    counts = everything[..., INDEX["count"]]
    limits = keep_thresholds(made.filters, made.survey, made.documents[made.scored])
    for place, one in enumerate(made.filters):
        if one.kind == "all":
            found[:, place] = bootstrap_all(everything, made.weights)
            documents[place], effective[place] = (counts > 0).sum(0), effective_documents(counts)
            continue
        for head in np.unique(rows["head"]) if rows else ():
            effect = rows["direct_effect"]
            limit = limits[one.kind][layer, head]
            beyond = effect >= limit if one.kind == "top" else effect <= limit
            kept = np.flatnonzero((rows["head"] == head) & beyond)
            table, document = features({name: values[kept] for name, values in rows.items()}), rows["document"][kept]
            tail = bootstrap_filtered(
                one.score(effect[kept]), table, document, counts[:, head], one.fraction, made.weights
            )
            found[:, place, head] = tail.sums
            documents[place, head], effective[place, head] = tail.documents, tail.effective
            short.append(tail.short)
    return Replicated(found[0], found[1:], documents, effective)


def component_lines(made, components):
    """Lines of downstream components."""
    kept = keep_thresholds(made.filters, made.survey, made.documents[made.scored])
    near = near_limits(made.filters, kept, made.shape)
    sums = DocumentSums(made.filters, made.thresholds, made.scored, made.documents, made.shape, components, near)
    for chunk in made.chunks:
        sums.add(chunk)
    moments = {name.removeprefix("lines/"): values for name, values in sums.moments().items()}
    return Lines([TextLines(moments, scores_of(made.filters, made.thresholds))], list(sums.component_sums))


def curve(made, edges):
    """Self-repair by bin of direct effect."""
    sums = np.zeros((2, len(made.scored), BINS, *made.shape))
    for chunk in made.chunks:
        for place, head in enumerate(chunk.heads):
            effect = chunk.quantities["direct_effect"][place][made.scored]
            bins = np.searchsorted(edges[chunk.layer, head], effect, side="right")
            cells = (made.documents[made.scored], bins)
            np.add.at(sums[0, :, :, chunk.layer, head], cells, chunk.quantities["self_repair"][place][made.scored])
            np.add.at(sums[1, :, :, chunk.layer, head], cells, 1)
    return CurveMoments.of(*sums).mean()


def windows_table(made):
    windows = len(made.scored)
    return pa.table(
        {
            "window": np.arange(windows),
            "document": made.names,
            "length": np.full(windows, made.tokens.shape[1]),
            "tokens": list(made.tokens),
            "donors": [[(window + 1) % windows] for window in range(windows)],
        }
    )


def token_effects(rng, layer, heads, effect, layers, all_heads, post_norms):
    shape = effect.shape
    ablated = 0.1 * effect + rng.normal(0, 0.01, shape)
    lost = effect - ablated
    depth = layer / layers
    by_mlp = np.zeros((*shape, layers), np.float32)
    by_mlp[..., layer:] = (rng.dirichlet(np.ones(layers - layer)) * 0.4 * depth)[None] * lost[..., None]
    by_head = np.zeros((*shape, layers, all_heads), np.float32)
    if layer + 1 < layers:
        spread = rng.dirichlet(np.ones((layers - layer - 1) * all_heads)).reshape(-1, all_heads)
        by_head[..., layer + 1 :, :] = spread * 0.3 * depth * lost[..., None, None]
    norm = 0.15 * lost * depth + rng.normal(0, 0.01, shape)
    post = 0.05 * lost if post_norms else np.zeros(shape)
    repair = by_mlp.sum(-1) + by_head.sum((-1, -2)) + norm + post
    quantities = {
        "direct_effect": effect,
        "ablated_direct_effect": ablated,
        "total_effect": repair - lost,
        "self_repair": repair,
        "repair_heads": by_head.sum((-1, -2)),
        "repair_mlps": by_mlp.sum(-1),
        "repair_mixers": np.zeros(shape),
        "repair_post_norms": post,
        "repair_norm": norm,
        "sigma_ratio": 1 + 0.01 * norm,
    }
    return TokenEffects(
        layer=layer,
        heads=heads,
        windows=np.arange(shape[1]),
        quantities={name: values.astype(np.float32) for name, values in quantities.items()},
        by_attention=by_head.sum(-1),
        by_mlp=by_mlp,
        by_head=by_head,
    )
