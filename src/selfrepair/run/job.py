"""A plan together with its text, and with the model: what merging and what computing work from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from selfrepair.ablation.operators import Operator
from selfrepair.ablation.units import Head
from selfrepair.engine import Engine
from selfrepair.model.language_model import LanguageModel
from selfrepair.run.plans import Plan
from selfrepair.statistics.accumulate import Components
from selfrepair.statistics.filters import Filter
from selfrepair.text import Windows

_STRETCH = 4  # times its size that a unit may grow so as not to cut a document


@dataclass(frozen=True)
class Design:
    """What a run measures, apart from the model's weights: all that is needed to merge its units.

    Attributes:
        plan: the frozen plan.
        windows: the corpus.
        donors: [window, donor] donor windows.
    """

    plan: Plan
    windows: Windows
    donors: np.ndarray

    @cached_property
    def heads(self) -> list[Head]:
        """Heads to ablate."""
        return [Head(*pair) for pair in self.plan["heads"]]

    @cached_property
    def filters(self) -> list[Filter]:
        """Which tokens numbers average over."""
        return [Filter.parse(label) for label in self.plan["filters"]]

    @property
    def components(self) -> Components:
        """Which downstream lines are summed."""
        components: Components = self.plan["components"]
        return components

    @property
    def negligible(self) -> float:
        """Effects in logits up to this size count as none when tokens are sorted into repaired and made worse."""
        return 1e-12 if self.plan["model"]["dtype"] == "float64" else 1e-5

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, heads per layer)."""
        return self.plan["model"]["layers"], self.plan["model"]["heads"]

    @cached_property
    def scored(self) -> np.ndarray:
        """Predictions that count, bool [window, position]."""
        return self.windows.scored(self.plan["text"]["first_position"])

    @cached_property
    def documents(self) -> np.ndarray:
        """The document of every prediction, [window, position]."""
        return self.windows.documents[:, :-1]

    @cached_property
    def units(self) -> list[np.ndarray]:
        """Windows of every unit of work; windows of one document come one after the other, in one unit where that
        does not make it much larger."""
        size, documents = self.plan["windows_per_unit"], self.windows.documents
        order = np.argsort(documents[:, 0], kind="stable")
        last = documents[order, self.windows.lengths[order] - 1]
        continues = last[:-1] == documents[order[1:], 0]
        units, start = [], 0
        while start < len(order):
            end = min(start + size, len(order))
            while end < min(start + _STRETCH * size, len(order)) and continues[end - 1]:
                end += 1
            units.append(order[start:end])
            start = end
        return units

    def batches(self, unit: int) -> list[np.ndarray]:
        """Windows of each batch of a unit."""
        size, windows = self.plan["windows_per_batch"], self.units[unit]
        return [windows[start : start + size] for start in range(0, len(windows), size)]


@dataclass(frozen=True)
class Job(Design):
    """A design with what computes it: what a worker works from.

    Attributes:
        model: the model.
        operator: the ablation.
        engine: computes the ablated runs.
    """

    model: LanguageModel
    operator: Operator
    engine: Engine
