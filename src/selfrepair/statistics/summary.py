"""Computes every reported number, with its error and interval, from sums and their bootstrap replicates."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from selfrepair.statistics.discovery import q_values
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.estimator import Estimator
from selfrepair.statistics.estimators import all_estimators
from selfrepair.statistics.features import INDEX
from selfrepair.statistics.intervals import Replicated
from selfrepair.statistics.labels import LabelRule, labels
from selfrepair.statistics.pooled import Card, pooled_card
from selfrepair.statistics.reaction import reaction_p_values


@dataclass
class Summary:
    """Estimates by name, each over its axes.

    Attributes:
        heads: over [filter, layer, head].
        card: over [filter] all heads together, over [filter, layer] all heads of a layer.
        count: tokens [filter, layer, head].
        documents: documents these come from [filter, layer, head].
        effective_documents: the number of equally full ones that they amount to [filter, layer, head].
    """

    heads: dict[str, Estimate]
    card: Card
    count: np.ndarray
    documents: np.ndarray
    effective_documents: np.ndarray

    @cached_property
    def q_values(self) -> np.ndarray:
        """Benjamini-Hochberg q-values of `reaction_p_values` [filter, layer, head], over a filter's heads."""
        repair, lost = self.heads["self_repair"], self.heads["lost_direct_effect"]
        p = reaction_p_values(repair, lost, self.effective_documents, LabelRule().negligible)
        return np.stack([q_values(row) for row in p])

    @property
    def labels(self) -> np.ndarray:
        """A word for each head [filter, layer, head], see `statistics.labels`."""
        lost, total = self.heads["lost_direct_effect"], self.heads["total_effect"]
        return labels(lost, total, self.heads["repaired_fraction"], self.q_values)


@dataclass
class Summariser:
    """Takes sums layer by layer, so that the replicates of one layer's heads are in memory at a time."""

    estimators: dict[str, Estimator] = field(default_factory=all_estimators)
    _heads: list[dict[str, Estimate]] = field(default_factory=list)
    _layers: list[Replicated] = field(default_factory=list)
    _counts: list[np.ndarray] = field(default_factory=list)
    _effective: list[np.ndarray] = field(default_factory=list)

    def add(self, layer: Replicated) -> None:
        """The next layer's heads, over [filter, head]."""
        self._heads.append({name: layer.estimate(estimator) for name, estimator in self.estimators.items()})
        self._layers.append(layer.pooled(1))
        self._effective.append(layer.effective)
        self._counts.append(layer.sums[..., INDEX["count"]].astype(np.int64))

    def summary(self) -> Summary:
        """All layers together."""
        layers = Replicated.stacked(self._layers, 1)
        heads = {name: _stacked([layer[name] for layer in self._heads]) for name in self.estimators}
        return Summary(
            heads=heads,
            card=pooled_card(layers),
            count=np.stack(self._counts, 1),
            documents=heads["self_repair"].documents,
            effective_documents=np.stack(self._effective, 1),
        )


def _stacked(estimates: list[Estimate]) -> Estimate:
    """Estimates over [filter, head], one per layer, as one over [filter, layer, head]."""
    names = ("value", "standard_error", "low", "high", "documents")
    return Estimate(*(np.stack([getattr(estimate, name) for estimate in estimates], 1) for name in names))
