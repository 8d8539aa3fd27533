"""Passages and close-ups of single tokens, as a run kept them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selfrepair.report.page.kept_tokens import COLUMNS
from selfrepair.report.page.pack import Blocks, Fixed
from selfrepair.results.runs import Run

Place = tuple[int, int, int, int]


def closeup_places(run: Run) -> set[Place]:
    """(layer, head, window, position) of every close-up."""
    table = run.extras.closeups
    if table is None:
        return set()
    return set(zip(*(table[name].to_pylist() for name in ("layer", "head", "window", "position")), strict=True))


def named_tokens(run: Run) -> np.ndarray:
    """Token ids that close-ups name."""
    table = run.extras.closeups
    if table is None:
        return np.zeros(0, np.int64)
    lists = [table[name].combine_chunks().flatten().to_numpy() for name in ("tokens_before", "tokens_after")]
    return np.unique(np.concatenate(lists))


def passage_windows(run: Run) -> np.ndarray:
    """Windows that were kept whole."""
    table = run.extras.passages
    return np.zeros(0, np.int64) if table is None else np.unique(table["window"].to_numpy())


def passage_blocks(run: Run, blocks: Blocks, windows: np.ndarray, step: float) -> dict[int, Any]:
    """One block per layer: the ledger of every scored token of a few windows, for every head."""
    table = run.extras.passages
    if table is None:
        return {}
    layers_json: dict[int, Any] = {}
    for layer in np.unique(table["layer"].to_numpy()):
        of_layer = table.filter(pc.equal(table["layer"], pa.scalar(layer, pa.int16())))
        arrays: dict[str, np.ndarray | Fixed] = {
            "head": of_layer["head"].to_numpy().astype(np.uint16),
            "window": np.searchsorted(windows, of_layer["window"].to_numpy()).astype(np.int32),
            "position": of_layer["position"].to_numpy().astype(np.int32),
        }
        arrays |= {name: Fixed(of_layer[name].to_numpy(), step) for name in COLUMNS if name != "sigma_ratio"}
        arrays["sigma_ratio"] = Fixed(of_layer["sigma_ratio"].to_numpy(), 1e-4)
        layers_json[int(layer)] = blocks.arrays(arrays)
    return layers_json


def closeup_blocks(run: Run, blocks: Blocks, windows: np.ndarray) -> dict[int, Any]:
    """One block of JSON per layer: the close-up by `head/window/position`."""
    table = run.extras.closeups
    if table is None:
        return {}
    index_of = {int(window): index for index, window in enumerate(windows)}
    layers: dict[int, dict[str, Any]] = {}
    for row in table.to_pylist():
        key = f"{row['head']}/{index_of[row['window']]}/{row['position']}"
        layers.setdefault(row["layer"], {})[key] = _seen(row)
    return {layer: blocks.json(in_layer) for layer, in_layer in layers.items()}


def _seen(row: dict[str, Any]) -> dict[str, Any]:
    attending = None if row["attending_layer"] is None else [row["attending_layer"], row["attending_head"]]
    return {
        "total": _short(row["total_effect"]),
        "target": [_short(row["target_logprob_before"]), _short(row["target_logprob_after"])],
        "before": [row["tokens_before"], _rounded(row["logprobs_before"])],
        "after": [row["tokens_after"], _rounded(row["logprobs_after"])],
        "repairers": [row["repairer_layers"], row["repairer_heads"], _rounded(row["repairer_effects"])],
        "attending": attending,
        "attended": [row["attended_positions"], _rounded(row["attention_before"]), _rounded(row["attention_after"])],
    }


def _rounded(values: list[float]) -> list[float | None]:
    return [_short(value) for value in values]


def _short(value: float) -> float | None:
    """A number to four digits, more than are shown; None if infinite, which JSON cannot hold."""
    return float(f"{value:.4g}") if np.isfinite(value) else None
