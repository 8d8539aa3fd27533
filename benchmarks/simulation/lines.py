"""Lines of downstream components, and the largest of them."""

from __future__ import annotations

import numpy as np
import xarray as xr

from selfrepair.results.dataset import _estimate, _largest
from selfrepair.results.quantities import COMPONENT
from selfrepair.statistics.accumulate import BY_ATTENTION, BY_HEAD, BY_MLP
from selfrepair.statistics.component_lines import Lines
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.filters import Filter
from selfrepair.statistics.keep_limits import keep_thresholds
from simulation.corpora import CORRELATION, GROUPS, chunk_of, design_of, documents_of, noise, pool_from, quantities
from simulation.measured import Tally, part
from simulation.truths import truths

SHAPE = (10, 10)  # layers and heads: 100 heads and 10 MLPs downstream of each head of layer 0
GROUP, TOP = 2, "top:0.02"
PATTERNS = ("one stands out", "several are close", "all are alike")


def slopes(pattern: str, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every component on direct effect, and how noisy it is, each [head, component]."""
    rng = np.random.default_rng(5)
    count = SHAPE[0] * SHAPE[1] + SHAPE[0]
    size = np.exp(0.8 * rng.normal(size=(heads, count)) - 2.5)
    slope = 0.1 * size * rng.normal(size=(heads, count))
    if pattern == "one stands out":
        slope[:, -1], size[:, -1] = 0.3, 0.3
    if pattern == "several are close":
        slope[:, -5:], size[:, -5:] = [0.1, 0.095, 0.09, 0.085, 0.08], 0.2
    if pattern == "all are alike":
        slope[:], size[:] = 0.02, 0.2
    return slope.astype(np.float32), size.astype(np.float32)


def book_lines(tally: Tally, rng: np.random.Generator, documents: int, tails: str, pattern: str) -> None:
    """Books lines and the largest of them, of the heads of layer 0, on one corpus; under the top 2% only tokens with
    direct effects near those have lines."""
    document, heads = documents_of(rng, documents), SHAPE[1]
    found = quantities(rng, tails, GROUPS[GROUP], heads, document)
    design = design_of(rng, document, [TOP], SHAPE, "heads", replicates=2)
    effects = np.broadcast_to(found["direct_effect"], (*SHAPE, len(document)))
    kept = keep_thresholds([Filter.parse(TOP)], effects[:1], document)["top"]
    head, token = np.nonzero(found["direct_effect"] >= kept[0][:, None])
    slope, size = slopes(pattern, heads)
    draw = noise(rng, tails != "light")
    shared = draw(documents, 1) + draw(heads * documents, slope.shape[1]).reshape(heads, documents, -1)
    values = slope[head] * found["direct_effect"][head, token][:, None] + size[head] * (
        np.sqrt(CORRELATION / 2) * shared[head, document[token]]
        + np.sqrt(1 - CORRELATION) * draw(len(head), slope.shape[1])
    )
    lines = np.zeros((heads, len(document), slope.shape[1]), np.float32)
    lines[head, token] = values
    by_head = lines[..., : SHAPE[0] * SHAPE[1]].reshape(heads, len(document), *SHAPE)
    chunk = chunk_of(0, found, by_head=by_head, by_attention=by_head.sum(-1), by_mlp=lines[..., -SHAPE[0] :])
    pool = pool_from(design, [chunk], effects)
    book_found(tally, pool.lines, slope * truths(tails, GROUP, 0.02)["direct_effect"], pattern)


def book_found(tally: Tally, lines: Lines | None, truth: np.ndarray, pattern: str) -> None:
    """Lines of layer 0, and the largest of each head."""
    assert lines is not None and BY_ATTENTION in lines.names
    variables: dict[str, xr.Variable] = {}
    for name, cells in ((BY_HEAD, truth[:, : -SHAPE[0]].reshape(-1, *SHAPE)), (BY_MLP, truth[:, -SHAPE[0] :])):
        estimate = lines.estimate(name)
        tally.add("lines of components, top 2%", part(estimate, np.s_[0, 0]), cells)
        quantity, axes = COMPONENT[name]
        variables |= _estimate(name, ("filter", "layer", "head", *axes), estimate, quantity)
    found = _largest(variables, lines)
    value, low, high = (found[f"largest_repair{end}"].values[0, 0] for end in ("", "_low", "_high"))
    names = [f"L{layer}H{head}" for layer in range(SHAPE[0]) for head in range(SHAPE[1])]
    names += [f"MLP {layer}" for layer in range(SHAPE[0])]
    chosen = [names.index(name) if name else 0 for name in found["largest_repairer"].values[0, 0]]
    interval = Estimate(value, value, low, high, value.astype(int))
    tally.add(f"largest repairer, {pattern}", interval, truth[np.arange(len(truth)), chosen])
