"""Runs side by side: differences of their numbers, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selfrepair.errors import SelfRepairError
from selfrepair.run import plans
from selfrepair.run.jobs import load_design
from selfrepair.run.merge import Merger, merger_of
from selfrepair.run.results import layer_rows
from selfrepair.run.store import Store
from selfrepair.statistics.compare import difference, same_documents
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.intervals import Replicated


@dataclass(frozen=True)
class Comparison:
    """A number of two runs, and the second's minus the first's.

    Attributes:
        names: what the runs are called: model and operator.
        filter: label of the filter.
        estimator: which number.
        paired: whether document by document: the runs are on the same text.
        each: the number of both runs, all heads together.
        change: its difference.
        heads: difference of every head [layer, head]; None where the models have different heads.
    """

    names: tuple[str, str]
    filter: str
    estimator: str
    paired: bool
    each: tuple[Estimate, Estimate]
    change: Estimate
    heads: Estimate | None


def compare(
    first: str | Path, second: str | Path, filter: str = "top 2%", estimator: str = "repaired_fraction"
) -> Comparison:
    """Second run minus first, from their units.

    Paired by document where both are on the same text with the same seed: what a document does to both cancels.

    Raises:
        SelfRepairError: no such run, or a filter that not both have.
    """
    mergers = [_merger(Path(path)) for path in (first, second)]
    sums = [_heads(merger, filter) for merger in mergers]
    paired = _paired(mergers[0], mergers[1])
    whole = [one.pooled() for one in sums]
    same_shape = sums[0].documents.shape == sums[1].documents.shape
    return Comparison(
        names=(_name(mergers[0]), _name(mergers[1])),
        filter=filter,
        estimator=estimator,
        paired=paired,
        each=(whole[0].estimate(estimator), whole[1].estimate(estimator)),
        change=difference(whole[0], whole[1], estimator, paired=paired),
        heads=difference(sums[0], sums[1], estimator, paired=paired) if same_shape else None,
    )


def _merger(path: Path) -> Merger:
    design = load_design(path)
    return merger_of(design, Store(path, plans.identity(design.plan)))


def _name(merger: Merger) -> str:
    plan = merger.design.plan
    return f"{plan['model']['name']}, {plan['ablation']['operator']}"


def _paired(first: Merger, second: Merger) -> bool:
    names = [[merger.design.windows.names[d] for d in merger.documents] for merger in (first, second)]
    keys = ("seed", "replicates")
    return same_documents(*names) and all(first.design.plan[k] == second.design.plan[k] for k in keys)


def _heads(merger: Merger, label: str) -> Replicated:
    """Sums of all heads [layer, head] under one filter."""
    labels = [one.label for one in merger.design.filters]
    if label not in labels:
        raise SelfRepairError(f"A run has no filter '{label}'.", f"It has: {', '.join(labels)}.")
    place = labels.index(label)
    layers = [merger.layer(layer, layer_rows(merger.units, layer)) for layer in range(merger.design.shape[0])]
    return Replicated(
        np.stack([one.sums[place] for one in layers]),
        np.stack([one.replicates[:, place] for one in layers], 1),
        np.stack([one.documents[place] for one in layers]),
        np.stack([one.effective[place] for one in layers]),
    )


def compare_all(paths: Sequence[str | Path], filter: str, estimator: str) -> list[Comparison]:
    """Every run against the first."""
    return [compare(paths[0], path, filter, estimator) for path in paths[1:]]


class Sums:
    """What the units of one run add up to, read once for any number of comparisons.

    Args:
        merger: the units.
    """

    def __init__(self, merger: Merger) -> None:
        self._merger = merger
        self._found: dict[str, Replicated] = {}

    def heads(self, label: str) -> Replicated:
        """Sums of all heads [layer, head] under one filter."""
        if label not in self._found:
            self._found[label] = _heads(self._merger, label)
        return self._found[label]

    def model(self, label: str) -> Replicated:
        """All heads together."""
        return self.heads(label).pooled()

    def pairs_with(self, other: Sums) -> bool:
        """Whether both runs are on the same documents with the same seed."""
        return _paired(self._merger, other._merger)


def sums_of(path: str | Path) -> Sums:
    """A run's sums, from its units.

    Raises:
        SelfRepairError: no such run, or a garbled one.
    """
    return Sums(_merger(Path(path)))
