"""A plan together with the model and the text in memory: what a worker works from."""

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


@dataclass(frozen=True)
class Job:
    """Everything the units of a run need.

    Attributes:
        plan: the frozen plan.
        model: the model.
        windows: the corpus.
        operator: the ablation.
        donors: [window, donor] donor windows.
        engine: computes the ablated runs.
    """

    plan: Plan
    model: LanguageModel
    windows: Windows
    operator: Operator
    donors: np.ndarray
    engine: Engine

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
    def shape(self) -> tuple[int, int]:
        """(layers, heads per layer)."""
        return self.model.anatomy.layers, self.model.anatomy.heads

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
        """Windows of every unit of work. Windows of one document come one after the other."""
        size = self.plan["windows_per_unit"]
        order = np.argsort(self.windows.documents[:, 0], kind="stable")
        return [order[start : start + size] for start in range(0, len(order), size)]

    def batches(self, unit: int) -> list[np.ndarray]:
        """Windows of each batch of a unit."""
        size, windows = self.plan["windows_per_batch"], self.units[unit]
        return [windows[start : start + size] for start in range(0, len(windows), size)]
