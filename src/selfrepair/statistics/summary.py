"""From sums and their bootstrap replicates to every number that is reported, with its error and interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from selfrepair.statistics.bootstrap import interval
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.estimators import ESTIMATORS
from selfrepair.statistics.features import INDEX

POOLED = (
    "lost_direct_effect",
    "self_repair",
    "repaired_fraction",
    "fraction_heads",
    "fraction_mlps",
    "fraction_post_norms",
    "fraction_norm",
)


@dataclass
class Summary:
    """Estimates by name, each over its axes.

    Attributes:
        heads: over [filter, layer, head].
        layers: over [filter, layer], all heads of a layer together.
        model: over [filter], all heads together.
        count: tokens [filter, layer, head].
        documents: documents these come from [filter, layer, head].
    """

    heads: dict[str, Estimate]
    layers: dict[str, Estimate]
    model: dict[str, Estimate]
    count: np.ndarray
    documents: np.ndarray


@dataclass
class Summariser:
    """Takes sums layer by layer, so that the replicates of one layer are in memory at a time.

    Attributes:
        documents: how many documents the corpus has.
    """

    documents: int
    _heads: list[dict[str, Estimate]] = field(default_factory=list)
    _layers: list[np.ndarray] = field(default_factory=list)
    _counts: list[np.ndarray] = field(default_factory=list)
    _documents: list[np.ndarray] = field(default_factory=list)

    def add(self, sums: np.ndarray, documents: np.ndarray) -> None:
        """The next layer.

        Args:
            sums: [filter, replicate, head, feature]; the first replicate is the corpus as it is.
            documents: documents of each head's tokens [filter, head].
        """
        self._heads.append(dict(_estimates(sums, documents)))
        self._layers.append(sums.sum(2))
        self._counts.append(sums[:, 0, :, INDEX["count"]].astype(np.int64))
        self._documents.append(documents)

    def summary(self) -> Summary:
        """All layers together."""
        by_layer = np.stack(self._layers, 2)
        everywhere = np.full(by_layer.shape[:1], self.documents)
        model = dict(_estimates(by_layer.sum(2), everywhere))
        layers = dict(_estimates(by_layer, np.repeat(everywhere[:, None], by_layer.shape[2], 1)))
        return Summary(
            heads={name: _stacked([layer[name] for layer in self._heads]) for name in ESTIMATORS},
            layers={name: layers[name] for name in POOLED},
            model={name: model[name] for name in POOLED},
            count=np.stack(self._counts, 1),
            documents=np.stack(self._documents, 1),
        )


def _estimates(sums: np.ndarray, documents: np.ndarray) -> Iterator[tuple[str, Estimate]]:
    """Every estimator; `sums` [filter, replicate, ..., feature], results over [filter, ...]."""
    for name, estimator in ESTIMATORS.items():
        values = np.moveaxis(estimator(sums), 1, 0)
        yield name, interval(values[0], values[1:], documents)


def _stacked(estimates: list[Estimate]) -> Estimate:
    """Estimates over [filter, head], one per layer, as one over [filter, layer, head]."""
    names = ("value", "standard_error", "low", "high", "documents")
    return Estimate(*(np.stack([getattr(one, name) for one in estimates], 1) for name in names))
