"""A made-up run whose numbers look like a model's: few heads matter, later layers repair more."""

import numpy as np
import pyarrow as pa

from selfrepair.results.runs import Run
from selfrepair.results.schema import heads_dataset
from selfrepair.statistics.accumulate import DocumentSums, TokenEffects
from selfrepair.statistics.filters import DEFAULT_FILTERS, all_thresholds
from selfrepair.statistics.keep import KeptTokens, keep_thresholds

ATTRIBUTES = {
    "title": "selfrepair of every head",
    "operator": "resample",
    "donors": "1 from other documents, seed 0",
    "model": "SmolLM2-135M-Instruct",
    "text": "builtin",
    "engine": "replay",
    "dtype": "float32",
    "numerical_floor": 3.2e-6,
    "ledger_residual": 1.1e-6,
    "first_position": 1,
    "status": "complete",
    "resumed": False,
    "seeds": [0, 1],
    "note": None,
}


def made_run(
    layers=3,
    heads=4,
    windows=6,
    positions=20,
    components="heads",
    skip=(),
    post_norms=False,
    seed=0,
    **attributes,
):
    """A whole run; `skip` holds (layer, head) that were never measured."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 500, (windows, positions + 1))
    documents = np.repeat(np.arange(windows)[:, None], positions, axis=1)
    scored = np.ones((windows, positions), bool)
    scored[:, 0] = False
    size = 0.02 * np.exp(rng.normal(0, 1.3, (layers, heads, 1, 1))) * rng.choice([1, 1, 1, -1], (layers, heads, 1, 1))
    shape = (layers, heads, windows, positions)
    spikes = np.exp(rng.normal(0, 1.0, shape) + 0.3 * rng.normal(0, 1, (1, 1, windows, 1)))
    effect = (size * spikes + rng.normal(0, 0.03, shape)).astype(np.float32)
    survey = effect[:, :, scored]
    limits = all_thresholds(DEFAULT_FILTERS, survey)
    sums = DocumentSums(DEFAULT_FILTERS, limits, scored, documents, (layers, heads), components)
    names = [f"corpus.jsonl:{number}" for number in range(windows)]
    kept = KeptTokens(keep_thresholds(DEFAULT_FILTERS, survey), tokens, documents, names, scored, sample=9)
    for layer in range(layers):
        measured = np.array([head for head in range(heads) if (layer, head) not in skip], int)
        if not len(measured):
            continue
        chunk = token_effects(rng, layer, measured, effect[layer][measured], layers, heads, post_norms)
        sums.add(chunk)
        kept.add(chunk)
    said = ATTRIBUTES | {"tokens": int(scored.sum()), "documents": windows} | attributes
    table = pa.table(
        {
            "window": np.arange(windows),
            "document": names,
            "length": np.full(windows, positions + 1),
            "tokens": list(tokens),
            "donors": [[(window + 1) % windows] for window in range(windows)],
        }
    )
    return Run({"model": said["model"], "seed": np.int64(seed)}, heads_dataset(sums, said), kept.table(), table)


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
