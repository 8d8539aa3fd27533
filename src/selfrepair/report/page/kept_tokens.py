"""Kept tokens for the page: all that fit, else the extreme ones and an even draw of the rest, with densities of all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from selfrepair.effects.lines import LINE_QUANTITIES
from selfrepair.report.page.pack import Blocks, Fixed
from selfrepair.results.proven import Stored
from selfrepair.results.runs import Run
from selfrepair.statistics.filters import Filter

COLUMNS = (
    "direct_effect",
    "ablated_direct_effect",
    "total_effect",
    *LINE_QUANTITIES,
    "sigma_ratio",
)
READ = ("layer", "head", "window", "position", "in_sample", *COLUMNS)
EXTREMES = 12  # most and least repaired and most broken tokens that are always kept
GRID = 40  # cells of a density along each axis
CROWD = 1500  # points from which a density is easier to read


@dataclass(frozen=True)
class Kept:
    """A run's kept tokens, as far as they go into the page.

    Attributes:
        columns: by name, one entry per row.
        passes: [row, filter] whether a row is among a filter's tokens; for `all`, among the uniform sample.
        densities: by layer, see `_densities`.
        total: how many rows the run has.
    """

    columns: dict[str, np.ndarray]
    passes: np.ndarray
    densities: dict[int, dict[str, np.ndarray]]
    total: int

    def windows(self) -> np.ndarray:
        """Windows of the rows."""
        return np.unique(self.columns["window"])

    @property
    def step(self) -> float:
        """Step to which token numbers are rounded: a thousandth of a logit, less if effects are small."""
        if not len(self.passes):
            return 1e-3
        large = np.quantile(np.abs(self.columns["total_effect"]), 0.99)
        return float(min(1e-3, max(1e-9, 10.0 ** np.floor(np.log10(max(large, 1e-6) / 1000)))))


def kept_tokens(run: Run, rows: int, always: set[tuple[int, int, int, int]]) -> Kept:
    """Reads and chooses rows, a layer at a time: a run may have kept more than fits in memory.

    Args:
        run: the run.
        rows: how many rows fit in the page, all heads together.
        always: (layer, head, window, position) that must be among them.
    """
    measured = int((run.interventions["count"].isel(filter=0).values > 0).sum())
    parts, total, densities = [], 0, {}
    fits = _rows_of(run) <= rows
    for columns in layers_of(run):
        passes = _passes(run, columns)
        total += len(passes)
        if not fits:
            chosen = _chosen(columns, passes, rows // max(1, measured), always)
            crowded = _densities(columns, passes, chosen)
            if crowded:
                densities[int(columns["layer"][0])] = crowded
            columns, passes = {name: values[chosen] for name, values in columns.items()}, passes[chosen]
        parts.append((columns, passes))
    if not parts:
        return Kept({name: np.zeros(0, np.int64) for name in READ}, np.zeros((0, len(run.filters)), bool), {}, 0)
    joined = {name: np.concatenate([columns[name] for columns, _ in parts]) for name in READ}
    return Kept(joined, np.concatenate([passes for _, passes in parts]), densities, total)


def layers_of(run: Run) -> Iterator[dict[str, np.ndarray]]:
    """The kept tokens of one layer after the other."""
    waiting: list[pa.RecordBatch] = []
    for batch in run.token_batches(READ):
        for layer in np.unique(batch.column("layer").to_numpy()):
            of_layer = batch.filter(pc.equal(batch.column("layer"), pa.scalar(layer, pa.int16())))
            if waiting and waiting[0].column("layer")[0].as_py() != layer:
                yield _columns(waiting)
                waiting = []
            waiting.append(of_layer)
    if waiting:
        yield _columns(waiting)


def token_blocks(run: Run, kept: Kept, blocks: Blocks, windows: np.ndarray) -> dict[str, Any]:
    """One block of rows per layer, and one of densities where not all points of a head are in the page.

    Args:
        run: the run.
        kept: from `kept_tokens`.
        blocks: where they go.
        windows: numbers of the windows in the page; rows name windows by their index in it.
    """
    data: dict[str, Any] = {"rows": {}, "density": {}}
    bits = _bits(kept.passes)
    inside = np.isin(kept.columns["window"], windows)
    for layer in np.unique(kept.columns["layer"]):
        rows = np.flatnonzero((kept.columns["layer"] == layer) & inside)
        rows = rows[np.lexsort([kept.columns[name][rows] for name in ("position", "window", "head")])]
        arrays: dict[str, np.ndarray | Fixed] = {
            "head": kept.columns["head"][rows].astype(np.uint16),
            "window": np.searchsorted(windows, kept.columns["window"][rows]).astype(np.int32),
            "position": kept.columns["position"][rows].astype(np.int32),
            "passes": bits[rows],
        }
        arrays |= {name: Fixed(kept.columns[name][rows], kept.step) for name in COLUMNS if name != "sigma_ratio"}
        arrays["sigma_ratio"] = Fixed(kept.columns["sigma_ratio"][rows], 1e-4)
        data["rows"][int(layer)] = blocks.arrays(arrays)
    data["density"] = {layer: blocks.arrays(arrays) for layer, arrays in kept.densities.items()}
    return data


def _bits(passes: np.ndarray) -> np.ndarray:
    """Which filters tokens pass, a bit for each: [row], from [row, filter] of at most 32 filters."""
    filters = passes.shape[1]
    bits = (passes.astype(np.int64) << np.arange(filters)).sum(1)
    if filters <= 8:
        return np.asarray(bits.astype(np.uint8))
    return np.asarray(bits.astype(np.uint16) if filters <= 16 else bits.astype(np.uint32).view(np.int32))


def _rows_of(run: Run) -> int:
    kept = run.kept
    if not isinstance(kept, Stored):
        return int(kept.num_rows)
    with kept.open() as file:
        return int(pq.read_metadata(file).num_rows)


def _columns(batches: list[pa.RecordBatch]) -> dict[str, np.ndarray]:
    table = pa.Table.from_batches(batches)
    return {name: table[name].to_numpy() for name in READ}


def _passes(run: Run, columns: dict[str, np.ndarray]) -> np.ndarray:
    """[row, filter]; direct effects are compared as the survey's were, in float32."""
    effect = columns["direct_effect"]
    passes = np.zeros((len(effect), len(run.filters)), bool)
    cell = columns["layer"].astype(int), columns["head"].astype(int)
    for number, label in enumerate(run.filters):
        limit = run.grid["threshold"].values[number].astype(np.float32)
        passes[:, number] = Filter.parse(label).passes_kept(effect, limit[cell], columns["in_sample"])
    return passes


def _chosen(
    columns: dict[str, np.ndarray], passes: np.ndarray, share: int, always: set[tuple[int, int, int, int]]
) -> np.ndarray:
    """[row] of one layer: whether it goes into the page."""
    chosen = np.zeros(len(passes), bool)
    wanted = _places(columns, always)
    for head in np.unique(columns["head"]):
        of_head = np.flatnonzero(columns["head"] == head)
        chosen[of_head[_choose(columns, passes, of_head, share, wanted)]] = True
    return chosen


def _choose(
    columns: dict[str, np.ndarray], passes: np.ndarray, of_head: np.ndarray, share: int, wanted: np.ndarray
) -> np.ndarray:
    """Indices into `of_head` (rows of one head) that go into the page."""
    effect, ablated = columns["direct_effect"][of_head], columns["ablated_direct_effect"][of_head]
    lost = effect - ablated
    repair = columns["total_effect"][of_head] + lost
    keep = np.isin(of_head, wanted)
    for number in range(passes.shape[1]):
        through = np.flatnonzero(passes[of_head, number])
        least = np.abs(repair[through]) / np.maximum(np.abs(lost[through]), 1e-9)
        for order in (np.argsort(-repair[through]), np.argsort(repair[through]), np.argsort(least)):
            keep[through[order[:EXTREMES]]] = True
    # an even draw, always the same
    mixed = (of_head.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(11)
    rank = mixed.astype(np.float64) + np.where(passes[of_head].any(1), 0, 2.0**60)
    rank[keep] = -1
    return np.argsort(rank, kind="stable")[: max(share, int(keep.sum()))]


def _places(columns: dict[str, np.ndarray], always: set[tuple[int, int, int, int]]) -> np.ndarray:
    if not always:
        return np.zeros(0, np.int64)
    names = ("layer", "head", "window", "position")
    given = np.array(sorted(always), np.int64)
    sizes = [int(max(columns[name].max(), given[:, axis].max())) + 1 for axis, name in enumerate(names)]
    rows = np.ravel_multi_index([columns[name].astype(np.int64) for name in names], sizes)
    return np.flatnonzero(np.isin(rows, np.ravel_multi_index(list(given.T), sizes)))


def _densities(columns: dict[str, np.ndarray], passes: np.ndarray, inside: np.ndarray) -> dict[str, np.ndarray]:
    """Counts of all of a layer's tokens over (change in direct effect, total effect), where not all are points."""
    densities: dict[str, list[Any]] = {"head": [], "filter": [], "range": [], "counts": []}
    for head in np.unique(columns["head"]):
        of_head = np.flatnonzero(columns["head"] == head)
        for number in range(passes.shape[1]):
            through = of_head[passes[of_head, number]]
            if len(through) <= CROWD or inside[through].all():
                continue
            change = columns["ablated_direct_effect"][through] - columns["direct_effect"][through]
            total = columns["total_effect"][through]
            limits = [np.quantile(values, (0.002, 0.998)) + np.array([-1e-6, 1e-6]) for values in (change, total)]
            counts, _, _ = np.histogram2d(change, total, GRID, limits)
            for name, value in zip(densities, (head, number, np.concatenate(limits), counts), strict=True):
                densities[name].append(value)
    if not densities["head"]:
        return {}
    return {
        "head": np.array(densities["head"], np.uint16),
        "filter": np.array(densities["filter"], np.uint8),
        "range": np.array(densities["range"], np.float32),
        "counts": np.minimum(np.array(densities["counts"]), 2**16 - 1).astype(np.uint16),
    }
