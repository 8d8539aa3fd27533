"""Several runs side by side: differences with intervals, paired by document where their units are at hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from selfrepair.errors import SelfRepairError
from selfrepair.report.page.pack import exact
from selfrepair.results.runs import Run
from selfrepair.run.comparison import Sums, sums_of
from selfrepair.statistics.compare import difference
from selfrepair.statistics.estimates import Estimate, with_interval

SHARES = ("repaired_fraction", "fraction_heads", "fraction_mlps", "fraction_norm")
ESTIMATED = (*SHARES, "lost_direct_effect", "self_repair", "total_effect")
OF_HEADS = ("repaired_fraction", "self_repair", "total_effect", "lost_direct_effect")


def differences(runs: Sequence[Run], folders: Sequence[Path | None]) -> list[dict[str, Any]]:
    """Every run against the first, for every filter that both have.

    Returns:
        Per run but the first: `filters`, `paired` and `how` (words), `pooled` {number: [filter][value, low, high]}, and
        `heads` {number: [filter][layer][head][value, low, high]} where the models have equally many.
    """
    sums = [_sums(folder) for folder in folders]
    return [_against(runs[0], runs[n], sums[0], sums[n]) for n in range(1, len(runs))]


def _sums(folder: Path | None) -> Sums | None:
    """What a folder's units add up to; None where they are not at hand."""
    if folder is None or not (folder / "units").is_dir():
        return None
    try:
        return sums_of(folder)
    except (SelfRepairError, KeyError, IndexError, OSError):  # moved without its units, or of an older version
        return None


def _against(first: Run, second: Run, one: Sums | None, other: Sums | None) -> dict[str, Any]:
    filters = [label for label in first.filters if label in second.filters]
    found: dict[str, Any] = {"filters": filters, "pooled": {}, "heads": {}}
    same_shape = all(first.heads.sizes[axis] == second.heads.sizes[axis] for axis in ("layer", "head"))
    if one is not None and other is not None:
        paired = one.pairs_with(other)
        found["how"] = "paired by document: both runs are on the same text" if paired else "not paired: texts differ"
        for name in ESTIMATED:
            found["pooled"][name] = [
                _listed(difference(one.model(label), other.model(label), name, paired=paired)) for label in filters
            ]
        for name in OF_HEADS if same_shape else ():
            found["heads"][name] = [
                _listed(difference(one.heads(label), other.heads(label), name, paired=paired)) for label in filters
            ]
    else:
        paired = False
        found["how"] = "not paired, from the standard errors in heads.nc: not all units are at hand"
        for name in ESTIMATED:
            found["pooled"][name] = _plain(first, second, f"pooled_{name}", filters)
        for name in OF_HEADS if same_shape else ():
            found["heads"][name] = _plain(first, second, name, filters)
    return found | {"paired": paired}


def _plain(first: Run, second: Run, name: str, filters: Sequence[str]) -> list[Any]:
    """Differences from values and standard errors alone."""
    if name not in first.heads:
        return []
    found = []
    for label in filters:
        parts = [(run.heads[name].sel(filter=label), run.heads[f"{name}_standard_error"].sel(filter=label))
                 for run in (first, second)]  # fmt: skip
        documents = np.minimum(*(_documents(run, label, parts[0][0].ndim) for run in (first, second)))
        error = np.hypot(parts[0][1].values, parts[1][1].values)
        found.append(_listed(with_interval(parts[1][0].values - parts[0][0].values, error, documents)))
    return found


def _documents(run: Run, label: str, axes: int) -> np.ndarray:
    name = "documents" if axes else "pooled_documents"
    documents: np.ndarray = run.heads[name].sel(filter=label).values
    return documents


def _listed(estimate: Estimate) -> Any:
    """[..., (value, low, high)] as nested lists, see `exact`."""
    stacked = np.stack(np.broadcast_arrays(estimate.value, estimate.low, estimate.high), -1).astype(float)
    return exact(np.round(stacked, 6))
