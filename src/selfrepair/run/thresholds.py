"""From all surveyed units: exact thresholds of every filter over the whole corpus, and corpus means."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from safetensors import safe_open

from selfrepair.run.job import Job
from selfrepair.run.store import Arrays
from selfrepair.statistics.curves import bin_edges
from selfrepair.statistics.filters import all_thresholds
from selfrepair.statistics.keep import keep_thresholds

STAGE = "thresholds"
CURVE_BINS = 20  # of the curve of self-repair over direct effect
_VALUES = 2**20  # direct effects that are in memory at once, if several heads together have fewer


def thresholds(job: Job, surveyed: Sequence[Path]) -> Arrays:
    """Merges the survey, in the order of the units; as many heads in memory at a time as fit, one at least.

    Returns:
        `thresholds` [filter, layer, head]; `curve_edges` [layer, head, bin - 1], between bins of direct effect;
        `keep_top`, `keep_bottom` [layer, head] (NaN where nothing is kept); `loss` in nats per token;
        `readout_error`; `means/L`; `position_means/L` where surveyed.
    """
    layers, heads = job.shape
    found = np.empty((len(job.filters), layers, heads), np.float32)
    keep = {"top": np.full((layers, heads), np.nan, np.float32), "bottom": np.full((layers, heads), np.nan, np.float32)}
    tokens = int(job.scored.sum())
    bins = min(CURVE_BINS, tokens)
    edges = np.empty((layers, heads, bins - 1), np.float32)
    step = max(1, _VALUES // tokens)
    for layer, start in product(range(layers), range(0, heads, step)):
        some = range(start, min(start + step, heads))
        effects = direct_effects(surveyed, layer, some, tokens)[None]
        here = layer, slice(some.start, some.stop)
        found[:, *here] = all_thresholds(job.filters, effects)[:, 0]
        kept = keep_thresholds(job.filters, effects)
        edges[here] = bin_edges(effects, bins)[0]
        for tail, limit in (("top", kept.top), ("bottom", kept.bottom)):
            if limit is not None:
                keep[tail][here] = limit[0]
    arrays = {"curve_edges": edges, "thresholds": found, "keep_top": keep["top"], "keep_bottom": keep["bottom"]}
    return arrays | _means(surveyed)


def direct_effects(surveyed: Sequence[Path], layer: int, heads: range, tokens: int) -> np.ndarray:
    """Clean direct effects of some heads of a layer over the whole corpus, [head, token]; no more of the files is read.

    Args:
        surveyed: the survey's units.
        layer: the layer.
        heads: its heads.
        tokens: scored tokens of the corpus.
    """
    found, end = np.empty((len(heads), tokens), np.float32), 0
    for path in surveyed:
        with safe_open(path, "numpy") as file:
            part = file.get_slice("direct_effects")[layer, heads.start : heads.stop]
        start, end = end, end + part.shape[-1]
        found[:, start:end] = part
    return found


def _means(surveyed: Sequence[Path]) -> Arrays:
    """Sums of the survey over its units, as means."""
    totals: Arrays = {}
    error = np.zeros(2)
    for path in surveyed:
        with safe_open(path, "numpy") as file:
            names = [n for n in file.keys() if n not in ("direct_effects", "readout_error")]  # noqa: SIM118
            for name in names:
                value = file.get_tensor(name)
                totals[name] = totals[name] + value if name in totals else value
            error = np.maximum(error, file.get_tensor("readout_error"))
    count = np.maximum(totals["mean_count"], 1)
    positions = np.maximum(totals.get("position_counts", np.ones(1)), 1)[:, None, None]
    means = {n: v / count for n, v in totals.items() if n.startswith("means/")}
    means |= {n: v / positions for n, v in totals.items() if n.startswith("position_means/")}
    nats, tokens = totals["loss"]
    return means | {"loss": np.array([nats / max(tokens, 1)]), "readout_error": error}
