"""Kept tokens for the page: all that fit, else the telling ones and an even draw of the rest, with densities of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from selfrepair.report.page.pack import Blocks, Fixed
from selfrepair.results.runs import Run

COLUMNS = (
    "direct_effect",
    "ablated_direct_effect",
    "total_effect",
    "repair_heads",
    "repair_mlps",
    "repair_post_norms",
    "repair_norm",
    "sigma_ratio",
)
EXTREMES = 12  # most and least repaired and most broken tokens that are always kept
GRID = 40  # cells of a density along each axis
CROWD = 1500  # points from which a density is easier to read


@dataclass(frozen=True)
class Kept:
    """A run's kept tokens in plain arrays.

    Attributes:
        columns: by name, one entry per row.
        passes: [row, filter] whether a row is among a filter's tokens; for `all`, among the uniform sample.
        chosen: [row] whether it goes into the page.
    """

    columns: dict[str, np.ndarray]
    passes: np.ndarray
    chosen: np.ndarray

    def windows(self) -> np.ndarray:
        """Windows of the rows that go into the page."""
        return np.unique(self.columns["window"][self.chosen])


def kept_tokens(run: Run, rows: int, always: set[tuple[int, int, int, int]]) -> Kept:
    """Reads and chooses rows.

    Args:
        run: the run.
        rows: how many rows fit in the page, all heads together.
        always: (layer, head, window, position) that must be among them.
    """
    names = ("layer", "head", "window", "position", *COLUMNS)
    columns = {name: run.tokens[name].to_numpy() for name in names}
    passes = _passes(run, columns)
    if len(passes) <= rows:
        return Kept(columns, passes, np.ones(len(passes), bool))
    chosen = np.zeros(len(passes), bool)
    owner = columns["layer"].astype(np.int64) * 2**20 + columns["head"]
    order = np.argsort(owner, kind="stable")
    starts = np.flatnonzero(np.diff(owner[order], prepend=-1))
    share = rows // max(1, len(starts))
    wanted = _places(columns, always)
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        mine = order[start:end]
        chosen[mine[_choose(columns, passes, mine, share, wanted)]] = True
    return Kept(columns, passes, chosen)


def step_of(run: Run) -> float:
    """The last digit that token numbers keep: a thousandth of a logit, less where effects are small."""
    if not run.tokens.num_rows:
        return 1e-3
    large = np.quantile(np.abs(run.tokens["total_effect"].to_numpy()), 0.99)
    return float(min(1e-3, max(1e-9, 10.0 ** np.floor(np.log10(max(large, 1e-6) / 1000)))))


def token_blocks(run: Run, kept: Kept, blocks: Blocks, windows: np.ndarray) -> dict[str, Any]:
    """One block of rows per layer, and one of densities where not all points of a head are in the page.

    Args:
        run: the run.
        kept: from `kept_tokens`.
        blocks: where they go.
        windows: numbers of the windows in the page; rows name windows by their place in it.
    """
    step = step_of(run)
    found: dict[str, Any] = {"rows": {}, "density": {}}
    bits = (kept.passes * 2 ** np.arange(kept.passes.shape[1])).sum(1).astype(np.uint8)
    there = kept.chosen & np.isin(kept.columns["window"], windows)
    for layer in np.unique(kept.columns["layer"]):
        of_layer = kept.columns["layer"] == layer
        rows = np.flatnonzero(of_layer & there)
        rows = rows[np.lexsort([kept.columns[name][rows] for name in ("position", "window", "head")])]
        arrays: dict[str, np.ndarray | Fixed] = {
            "head": kept.columns["head"][rows].astype(np.uint16),
            "window": np.searchsorted(windows, kept.columns["window"][rows]).astype(np.int32),
            "position": kept.columns["position"][rows].astype(np.int32),
            "passes": bits[rows],
        }
        arrays |= {name: Fixed(kept.columns[name][rows], step) for name in COLUMNS if name != "sigma_ratio"}
        arrays["sigma_ratio"] = Fixed(kept.columns["sigma_ratio"][rows], 1e-4)
        found["rows"][int(layer)] = blocks.arrays(arrays)
        crowded = _densities(kept, np.flatnonzero(of_layer), there)
        if crowded:
            found["density"][int(layer)] = blocks.arrays(crowded)
    return found


def _passes(run: Run, columns: dict[str, np.ndarray]) -> np.ndarray:
    """[row, filter]; direct effects are compared as the survey's were, in float32."""
    effect = columns["direct_effect"]
    passes = np.zeros((len(effect), len(run.filters)), bool)
    place = columns["layer"].astype(int), columns["head"].astype(int)
    for number, label in enumerate(run.filters):
        limit = run.heads["threshold"].values[number].astype(np.float32)
        if label.startswith("top"):
            passes[:, number] = effect >= limit[place]
        elif label.startswith("bottom"):
            passes[:, number] = effect <= limit[place]
        else:
            passes[:, number] = run.tokens["in_sample"].to_numpy()
    return passes


def _choose(
    columns: dict[str, np.ndarray], passes: np.ndarray, mine: np.ndarray, share: int, wanted: np.ndarray
) -> np.ndarray:
    """Places in `mine` (rows of one head) that go into the page."""
    effect, ablated = columns["direct_effect"][mine], columns["ablated_direct_effect"][mine]
    lost = effect - ablated
    repair = columns["total_effect"][mine] + lost
    keep = np.isin(mine, wanted)
    for number in range(passes.shape[1]):
        through = np.flatnonzero(passes[mine, number])
        least = np.abs(repair[through]) / np.maximum(np.abs(lost[through]), 1e-9)
        for order in (np.argsort(-repair[through]), np.argsort(repair[through]), np.argsort(least)):
            keep[through[order[:EXTREMES]]] = True
    mixed = (mine.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(11)  # an even draw, always the same
    rank = mixed.astype(np.float64) + np.where(passes[mine].any(1), 0, 2.0**60)
    rank[keep] = -1
    return np.argsort(rank, kind="stable")[: max(share, int(keep.sum()))]


def _places(columns: dict[str, np.ndarray], always: set[tuple[int, int, int, int]]) -> np.ndarray:
    if not always:
        return np.zeros(0, np.int64)
    names = ("layer", "head", "window", "position")
    given = np.array(sorted(always), np.int64)
    sizes = [int(max(columns[name].max(), given[:, place].max())) + 1 for place, name in enumerate(names)]
    rows = np.ravel_multi_index([columns[name].astype(np.int64) for name in names], sizes)
    return np.flatnonzero(np.isin(rows, np.ravel_multi_index(list(given.T), sizes)))


def _densities(kept: Kept, rows: np.ndarray, there: np.ndarray) -> dict[str, np.ndarray]:
    """Counts of all passing tokens over (change in direct effect, total effect), where not all are points."""
    found: dict[str, list[Any]] = {"head": [], "filter": [], "range": [], "counts": []}
    heads = kept.columns["head"][rows]
    for head in np.unique(heads):
        mine = rows[heads == head]
        for number in range(kept.passes.shape[1]):
            through = mine[kept.passes[mine, number]]
            if len(through) <= CROWD or there[through].all():
                continue
            change = kept.columns["ablated_direct_effect"][through] - kept.columns["direct_effect"][through]
            total = kept.columns["total_effect"][through]
            limits = [np.quantile(values, (0.002, 0.998)) + np.array([-1e-6, 1e-6]) for values in (change, total)]
            counts, _, _ = np.histogram2d(change, total, GRID, limits)
            for name, value in zip(found, (head, number, np.concatenate(limits), counts), strict=True):
                found[name].append(value)
    if not found["head"]:
        return {}
    return {
        "head": np.array(found["head"], np.uint16),
        "filter": np.array(found["filter"], np.uint8),
        "range": np.array(found["range"], np.float32),
        "counts": np.minimum(np.array(found["counts"]), 2**16 - 1).astype(np.uint16),
    }
