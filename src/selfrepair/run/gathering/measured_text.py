"""A text's finished units that count."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from selfrepair.run.planning.job import Design
from selfrepair.run.scheduling.early_stopping import UnitsSoFar
from selfrepair.run.storage.finished_unit import Unit


@dataclass(frozen=True)
class MeasuredText:
    """What was measured on one text.

    Attributes:
        design: the run.
        surveyed: the merged survey.
        units: its finished sweep units that count, in their order.
        so_far: their sums, and whether they were enough.
    """

    design: Design
    surveyed: Unit
    units: list[Unit]
    so_far: UnitsSoFar

    @cached_property
    def documents(self) -> np.ndarray:
        """Documents that have scored tokens in these units, in the order of their numbers."""
        documents = [unit.get("documents") for unit in self.units]
        return np.unique(np.concatenate(documents)) if documents else np.zeros(0, np.int64)

    @property
    def exact_documents(self) -> int:
        """How many of them were measured exactly."""
        return int(np.isin(self.documents, self.design.exact_documents).sum())
