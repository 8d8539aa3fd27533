"""Runs side by side: differences of their numbers, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import numpy as np

from selfrepair.errors import SelfRepairError
from selfrepair.model.kinship import unrelated
from selfrepair.results import manifest
from selfrepair.results.intervention_axis import Cell
from selfrepair.results.plan import Plan
from selfrepair.run.gathering.all_texts import Pool, measured_text, pool_of
from selfrepair.run.planning import run_plan
from selfrepair.run.planning.reload import load_design, text_folders
from selfrepair.run.storage.store import Store
from selfrepair.run.unit.thresholds import STAGE as THRESHOLDS
from selfrepair.statistics.between_runs import difference, same_documents
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.intervals import Replicated
from selfrepair.terminal import plain

_NAMED = 8  # interventions that a refusal names


@dataclass(frozen=True)
class Comparison:
    """A number of two runs, and the second's minus the first's.

    Example:
        >>> comparison = compare("runs/resample", "runs/mean", filter="all", estimator="self_repair")
        >>> comparison.paired, comparison.heads.value.shape
        (True, (2, 2))

    Attributes:
        names: names of the runs: model and operator.
        filter: label of the filter.
        estimator: which number.
        paired: whether document by document: the runs are on the same text.
        each: the number of both runs, all heads together.
        change: its difference.
        of_heads: whether both runs are of single heads.
        cells: heads, or other interventions, that both runs have by name; as the first run has them.
        differences: their differences [intervention]; None where those of one model are not those of the other.
        unrelated: why they are not; empty where they are.
    """

    names: tuple[str, str]
    filter: str
    estimator: str
    paired: bool
    each: tuple[Estimate, Estimate]
    change: Estimate
    of_heads: bool
    cells: tuple[Cell, ...]
    differences: Estimate | None
    unrelated: str

    @property
    def heads(self) -> Estimate | None:
        """Difference of every head [layer, head]; None where heads are not compared, or other interventions are."""
        if self.differences is None or not self.of_heads:
            return None
        shape = (1 + max(cell.layer for cell in self.cells), 1 + max(cell.head for cell in self.cells))
        return by_cell(self.differences, self.cells, shape)


def compare(
    first: str | Path,
    second: str | Path,
    filter: str = "top 2%",
    estimator: str = "repaired_fraction",
    same_heads: bool = False,
) -> Comparison:
    """The difference of two runs, the second minus the first, from their units.

    Paired by document where both are on the same text with the same seed: what a document does to both cancels.
    Heads are subtracted one by one only where the models are versions of one another: the same weights, revisions of
    one model, or weights that correlate, as those of checkpoints, fine-tunes and quantisations do. Other interventions
    are subtracted by their names, likewise; numbers of all together are then of those that both runs have.

    Example:
        >>> compare("runs/resample", "runs/mean", filter="all").names
        ('GPT2LMHeadModel, resample', 'GPT2LMHeadModel, mean')

    Args:
        first: a run's folder.
        second: another's.
        filter: which tokens.
        estimator: which number.
        same_heads: subtract heads of equal name all the same, as far as the models have equally many.

    Raises:
        SelfRepairError: no such run, one that is not complete or is damaged, a filter that not both have, or no
            intervention that both have.
    """
    pools = [_pool(Path(path)) for path in (first, second)]
    for path in (first, second):
        manifest.check_files(Path(path))
    sums = [Sums(pool) for pool in pools]
    paired = sums[0].pairs_with(sums[1])
    why = unrelated_heads(pools[0].design.plan, pools[1].design.plan, same_heads)
    cells = _require_common(sums[0].cells, sums[1].cells) if not why else ([], [])
    whole = [run_sums.together(filter, mine, whole=bool(why)) for run_sums, mine in zip(sums, cells, strict=True)]
    single = [run_sums.at(filter, mine) for run_sums, mine in zip(sums, cells, strict=True)] if not why else None
    return Comparison(
        names=(_name(pools[0]), _name(pools[1])),
        filter=filter,
        estimator=estimator,
        paired=paired,
        each=(whole[0].estimate(estimator), whole[1].estimate(estimator)),
        change=difference(whole[0], whole[1], estimator, paired=paired),
        of_heads=all(run_sums.of_heads for run_sums in sums),
        cells=tuple(cells[0]),
        differences=difference(single[0], single[1], estimator, paired=paired) if single else None,
        unrelated=why,
    )


def unrelated_heads(first: Plan, second: Plan, same_heads: bool = False) -> str:
    """Why heads of two runs cannot be subtracted one by one; empty where they can.

    Args:
        first: plan of a run.
        second: plan of another.
        same_heads: whether heads of equal name are taken for the same heads.
    """
    models = first["model"], second["model"]
    if same_heads and all(models[0][axis] == models[1][axis] for axis in ("layers", "heads")):
        return ""
    return unrelated(*models)


class Incomplete(SelfRepairError):
    """A run with units missing: its numbers are about other documents than those of its plan."""


def _pool(path: Path) -> Pool:
    """All units of a run; verified as they are read.

    Raises:
        Incomplete: units are missing.
        SelfRepairError: something is damaged.
    """
    designs = [(folder, load_design(folder)) for folder in text_folders(path)]
    stores = [Store(folder, run_plan.identity(design.plan)) for folder, design in designs]
    for store in stores:
        if not store.finished(THRESHOLDS):
            raise Incomplete(f"{store.folder} has not finished its survey.", _go_on(path))
    pool = pool_of(*(measured_text(design, store) for (_, design), store in zip(designs, stores, strict=True)))
    if pool.missing:
        raise Incomplete(
            f"{path} is not complete: it has {pool.units} of {pool.units + pool.missing} units, so it cannot be "
            "compared as the run that its plan describes.",
            _go_on(path),
        )
    return pool


def _go_on(path: Path) -> str:
    return f"`selfrepair resume {quote(str(path))}` does what is missing."


def _name(pool: Pool) -> str:
    plan = pool.design.plan
    own = ", own positions" if plan["ablation"]["positions"] == "own" else ""
    return f"{plan['model']['name']}, {plan['ablation']['operator']}{own}"


def compare_all(paths: Sequence[str | Path], filter: str, estimator: str, same_heads: bool = False) -> list[Comparison]:
    """Every run against the first."""
    return [compare(paths[0], path, filter, estimator, same_heads) for path in paths[1:]]


class Sums:
    """Sums of the units of one run, read once for any number of comparisons.

    Args:
        pool: the units.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._found: dict[str, Replicated] = {}

    @property
    def cells(self) -> list[Cell]:
        """The interventions, as results have them."""
        return self._pool.design.axis

    @property
    def of_heads(self) -> bool:
        """Whether each is the ablation of one head."""
        return self._pool.design.of_heads

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, cells per layer) of the sums."""
        return self._pool.design.shape

    def at(self, label: str, cells: Sequence[Cell]) -> Replicated:
        """Sums of some interventions [intervention] under one filter."""
        sums, (layers, heads) = self._sums(label), np.array([cell[:2] for cell in cells], int).reshape(-1, 2).T
        return sums.cells(layers, heads)

    def together(self, label: str, cells: Sequence[Cell], whole: bool = False) -> Replicated:
        """All heads together; of other interventions those in `cells`, or all of the run if `whole`."""
        return self._sums(label).pooled() if self.of_heads or whole else self.at(label, cells).pooled()

    def pairs_with(self, other: Sums) -> bool:
        """Whether both runs are on the same documents with the same seed."""
        plans = self._pool.design.plan, other._pool.design.plan
        same = plans[0]["seed"] == plans[1]["seed"] and plans[0]["replicates"] == plans[1]["replicates"]
        return same and same_documents(self._pool.digests, other._pool.digests)

    def _sums(self, label: str) -> Replicated:
        """Sums of all cells [layer, head] under one filter."""
        if label not in self._found:
            self._found[label] = _summed(self._pool, label)
        return self._found[label]


def cells_of_both(first: Sequence[Cell], second: Sequence[Cell]) -> tuple[list[Cell], list[Cell]]:
    """Interventions that two runs have by name: as the first has them, and as the second."""
    theirs = {cell.name: cell for cell in second}
    mine = [cell for cell in first if cell.name in theirs]
    return mine, [theirs[cell.name] for cell in mine]


def _require_common(first: Sequence[Cell], second: Sequence[Cell]) -> tuple[list[Cell], list[Cell]]:
    """The interventions that two runs have by name; refuses runs that share none.

    Raises:
        SelfRepairError: naming what they have.
    """
    both = cells_of_both(first, second)
    if not both[0]:
        names = [", ".join(plain(cell.name) for cell in run_cells[:_NAMED]) for run_cells in (first, second)]
        raise SelfRepairError(
            f"The runs have no intervention of one name: the first has {names[0]}; the second {names[1]}.",
            "Give what corresponds the same name: Intervention(..., name=...) or together(name, sites).",
        )
    return both


def by_cell(estimate: Estimate, cells: Sequence[Cell], shape: Sequence[int]) -> Estimate:
    """Numbers of interventions [intervention] at their cells [layer, head]; NaN, of no documents, in all others."""
    layers, heads = np.array([cell[:2] for cell in cells], int).reshape(-1, 2).T

    def spread(values: np.ndarray) -> np.ndarray:
        filled = np.full(tuple(shape), 0 if values.dtype.kind in "iu" else np.nan, values.dtype)
        filled[layers, heads] = values
        return filled

    parts = (estimate.value, estimate.standard_error, estimate.low, estimate.high, estimate.documents)
    return Estimate(*map(spread, parts))


def sums_of(path: str | Path) -> Sums:
    """A run's sums, from its units.

    Raises:
        Incomplete: units are missing.
        SelfRepairError: no such run, or a damaged one.
    """
    return Sums(_pool(Path(path)))


def _summed(pool: Pool, label: str) -> Replicated:
    """Sums of all cells [layer, head] under one filter."""
    labels = [filter_.label for filter_ in pool.design.filters]
    if label not in labels:
        raise SelfRepairError(f"A run has no filter '{label}'.", f"It has: {', '.join(labels)}.")
    index = labels.index(label)
    layers = [pool.layer(layer) for layer in range(pool.design.shape[0])]
    return Replicated.stacked([layer.cells(index) for layer in layers], 0)
