"""Several runs side by side: differences with intervals, paired by document where their units are at hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from selfrepair.report.page.pack import exact
from selfrepair.results.quantities import PARTS
from selfrepair.results.runs import Run
from selfrepair.run.gathering.compare_runs import Incomplete, Sums, sums_of, unrelated_heads
from selfrepair.statistics.between_runs import difference
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.fieller import difference_of

SHARES = ("repaired_fraction", "fraction_heads", "fraction_mlps", "fraction_norm")
ESTIMATED = (*SHARES, "lost_direct_effect", "self_repair", "total_effect")
OF_HEADS = ("repaired_fraction", "self_repair", "total_effect", "lost_direct_effect")


def differences(runs: Sequence[Run], folders: Sequence[Path | None]) -> list[dict[str, Any]]:
    """Every run against the first, for every filter that both have.

    Returns:
        Per run but the first: `filters`, `paired` and `how` (words), `pooled` {number: [filter][value, low, high]}, and
        `heads` {number: [filter][layer][head][value, low, high]} where heads of one are heads of the other; else
        `unrelated` says why they are not.
    """
    sums = [_sums(folder) for folder in folders] if len(runs) > 1 else []
    return [_against(runs[0], runs[n], sums[0], sums[n]) for n in range(1, len(runs))]


def _sums(folder: Path | None) -> Sums | None:
    """What a folder's units add up to; None where they are not all at hand.

    Raises:
        SelfRepairError: they are damaged.
    """
    if folder is None or not (folder / "units").is_dir():
        return None
    try:
        return sums_of(folder)
    except Incomplete:  # interrupted, or moved without its units
        return None


def _against(first: Run, second: Run, one: Sums | None, other: Sums | None) -> dict[str, Any]:
    filters = [label for label in first.filters if label in second.filters]
    found: dict[str, Any] = {"filters": filters, "pooled": {}, "heads": {}}
    found["unrelated"] = unrelated_heads(first.plan, second.plan)
    if one is not None and other is not None:
        paired = one.pairs_with(other)
        found["how"] = "paired by document: both runs are on the same text" if paired else "not paired: texts differ"
        for name in ESTIMATED:
            found["pooled"][name] = [
                _listed(difference(one.model(label), other.model(label), name, paired=paired)) for label in filters
            ]
        for name in () if found["unrelated"] else OF_HEADS:
            found["heads"][name] = [
                _listed(difference(one.heads(label), other.heads(label), name, paired=paired)) for label in filters
            ]
    else:
        paired = False
        found["how"] = "not paired, from the intervals in heads.nc: not all units are at hand"
        for name in ESTIMATED:
            found["pooled"][name] = _plain(first, second, f"pooled_{name}", filters)
        for name in () if found["unrelated"] else OF_HEADS:
            found["heads"][name] = _plain(first, second, name, filters)
    return found | {"paired": paired}


def _plain(first: Run, second: Run, name: str, filters: Sequence[str]) -> list[Any]:
    """Differences from values and their intervals alone."""
    if name not in first.heads:
        return []
    return [_listed(difference_of(_estimate(first, one, name), _estimate(second, one, name))) for one in filters]


def _estimate(run: Run, label: str, name: str) -> Estimate:
    value, error, low, high = (run.heads[f"{name}{part}"].sel(filter=label).values for part in PARTS)
    documents = "documents" if run.heads[name].ndim > 1 else "pooled_documents"
    return Estimate(value, error, low, high, run.heads[documents].sel(filter=label).values)


def _listed(estimate: Estimate) -> Any:
    """[..., (value, low, high)] as nested lists, see `exact`."""
    stacked = np.stack(np.broadcast_arrays(estimate.value, estimate.low, estimate.high), -1).astype(float)
    return exact(np.round(stacked, 6))
