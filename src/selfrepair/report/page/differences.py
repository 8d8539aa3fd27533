"""Several runs side by side: differences with intervals, paired by document if their units are available."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from selfrepair.effects.lines import LINES
from selfrepair.report.page.pack import exact
from selfrepair.results.intervention_axis import AXIS, Cell, cells_of, grid_shape
from selfrepair.results.quantities import PARTS
from selfrepair.results.runs import Run
from selfrepair.run.gathering.compare_runs import Incomplete, Sums, by_cell, cells_of_both, sums_of, unrelated_heads
from selfrepair.statistics.between_runs import difference
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.fieller import difference_of

SHARES = ("repaired_fraction", *(line.share for line in LINES))
ESTIMATED = (*SHARES, "lost_direct_effect", "self_repair", "total_effect")
OF_HEADS = ("repaired_fraction", "self_repair", "total_effect", "lost_direct_effect")


def page_differences(runs: Sequence[Run], folders: Sequence[Path | None]) -> list[dict[str, Any]]:
    """Every run against the first, for every filter that both have.

    Returns:
        Per run but the first: `filters`, `paired` and `how` (words), `pooled` {number: [filter][value, low, high]}, and
        `heads` {number: [filter][layer][head][value, low, high]} where heads of one are heads of the other; else
        `unrelated` is the reason.
    """
    sums = [_sums(folder) for folder in folders] if len(runs) > 1 else []
    return [_against(runs[0], runs[n], sums[0], sums[n]) for n in range(1, len(runs))]


def _sums(folder: Path | None) -> Sums | None:
    """The sums of a folder's units; None if not all of them are available.

    Raises:
        SelfRepairError: they are damaged.
    """
    if folder is None or not (folder / "units").is_dir():
        return None
    try:
        return sums_of(folder)
    except Incomplete:  # interrupted, or moved without its units
        return None


@dataclass(frozen=True)
class _FromUnits:
    """Differences of two runs from the sums of their units.

    Attributes:
        runs: their sums.
        cells: the interventions that both have, as each has them.
        whole: whether all together is of all interventions, or of those that both have.
    """

    runs: tuple[Sums, Sums]
    cells: tuple[list[Cell], list[Cell]]
    whole: bool

    @property
    def paired(self) -> bool:
        return self.runs[0].pairs_with(self.runs[1])

    @property
    def how(self) -> str:
        return "paired by document: both runs are on the same text" if self.paired else "not paired: texts differ"

    def together(self, label: str, name: str) -> Estimate | None:
        both = zip(self.runs, self.cells, strict=True)
        first, second = (run.together(label, cells, self.whole) for run, cells in both)
        return difference(first, second, name, paired=self.paired)

    def single(self, label: str, name: str) -> Estimate | None:
        first, second = (run.at(label, cells) for run, cells in zip(self.runs, self.cells, strict=True))
        return difference(first, second, name, paired=self.paired)


@dataclass(frozen=True)
class _FromIntervals:
    """The same from values and their intervals alone."""

    runs: tuple[Run, Run]
    cells: tuple[list[Cell], list[Cell]]
    whole: bool
    paired: bool = False
    how: str = "not paired, from the intervals in heads.nc: not all units are at hand"

    def together(self, label: str, name: str) -> Estimate | None:
        every = all(
            len(run.interventions["name"]) == len(cells) for run, cells in zip(self.runs, self.cells, strict=True)
        )
        if not (self.whole or every) or f"pooled_{name}" not in self.runs[0].interventions:
            return None
        first, second = (_estimate(run.interventions, f"pooled_{name}", label) for run in self.runs)
        return difference_of(first, second)

    def single(self, label: str, name: str) -> Estimate | None:
        if name not in self.runs[0].interventions:
            return None
        parts = []
        for run, cells in zip(self.runs, self.cells, strict=True):
            index_of = {cell.name: index for index, cell in enumerate(cells_of(run.interventions))}
            chosen = run.interventions.isel({AXIS: [index_of[cell.name] for cell in cells]})
            parts.append(_estimate(chosen, name, label))
        return difference_of(parts[0], parts[1])


def _against(first: Run, second: Run, first_sums: Sums | None, second_sums: Sums | None) -> dict[str, Any]:
    filters = [label for label in first.filters if label in second.filters]
    cells = cells_of_both(cells_of(first.interventions), cells_of(second.interventions))
    unrelated = unrelated_heads(first.plan, second.plan)
    if not (unrelated or cells[0]):
        unrelated = "the runs have no intervention of one name"
    whole = bool(unrelated) or (first.of_heads and second.of_heads)
    numbers: _FromUnits | _FromIntervals = _FromIntervals((first, second), cells, whole)
    if first_sums is not None and second_sums is not None:
        numbers = _FromUnits((first_sums, second_sums), cells, whole)
    shape = grid_shape(first.interventions)

    def of_cells(label: str, name: str) -> Any:
        estimate = numbers.single(label, name)
        return None if estimate is None else _listed(by_cell(estimate, cells[0], shape))

    def together(label: str, name: str) -> Any:
        estimate = numbers.together(label, name)
        return None if estimate is None else _listed(estimate)

    single = () if unrelated else OF_HEADS
    return {
        "filters": filters,
        "unrelated": unrelated,
        "paired": numbers.paired,
        "how": numbers.how,
        "pooled": {name: [together(label, name) for label in filters] for name in ESTIMATED},
        "heads": {name: [of_cells(label, name) for label in filters] for name in single},
    }


def _estimate(numbers: xr.Dataset, name: str, label: str) -> Estimate:
    value, error, low, high = (numbers[f"{name}{part}"].sel(filter=label).values for part in PARTS)
    documents = "documents" if numbers[name].ndim > 1 else "pooled_documents"
    return Estimate(value, error, low, high, numbers[documents].sel(filter=label).values)


def _listed(estimate: Estimate) -> Any:
    """[..., (value, low, high)] as nested lists, see `exact`."""
    stacked = np.stack(np.broadcast_arrays(estimate.value, estimate.low, estimate.high), -1).astype(float)
    return exact(np.round(stacked, 6))
