"""Sums of a run's units so far, and whether they are enough: the finished units from the first on, in their order,
decide, so that everyone who reads the same folder sees the same. Units are counted here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from selfrepair.run.planning.job import Design
from selfrepair.run.storage.finished_unit import Unit
from selfrepair.run.storage.store import Store
from selfrepair.run.unit.running_sums import LOST, REPAIR, TOKENS
from selfrepair.run.unit.sums import ALL_HEADS, EACH_HEAD, ESTIMATED
from selfrepair.run.unit.sweep import STAGE as SWEEP
from selfrepair.statistics.curves import Moments
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.stopping import StopRule, Summed, confidence_sequence
from selfrepair.statistics.two_phase_moments import PhaseSums, TwoPhaseMoments


class UnitsSoFar:
    """Sums per document of the finished units from the first on, read as they come; and which units are missing.

    Args:
        design: the run.
        store: its finished units.
    """

    def __init__(self, design: Design, store: Store) -> None:
        self.design, self.store = design, store
        self.units = 0  # looked at
        self.stop: int | None = None  # how many units were enough
        self.finished: dict[int, Unit] = {}  # when last looked, by number
        self._last = 0  # documents at the last look
        self._seen = np.zeros(len(self.documents), bool)  # documents with tokens in the units so far
        cells = (len(self.documents), len(design.filters))
        self._all = np.zeros((2, *cells))  # sums of self-repair; of lost direct effect
        by_head = design.watches_estimates or (design.until is not None and design.until.of == "heads")
        wide = (len(self.documents), *(design.shape if by_head else (0, 0)), 3)
        self._heads = np.zeros(wide)  # as `RunningSums` has them
        self._estimated = np.zeros(wide if design.watches_estimates else (0,))

    @property
    def documents(self) -> np.ndarray:
        """Documents of the corpus that have scored tokens."""
        return self.design.scored_documents

    def catch_up(self, units: Mapping[int, Unit] | None = None) -> UnitsSoFar:
        """Adds the units finished since; after each one where a look is due, checks whether they are enough.

        Args:
            units: the finished units, if they have been verified already.

        Raises:
            Damaged: a unit that is to be taken in is not what was written; it is not taken in.
        """
        planned, finished = range(len(self.design.units)), self.store.finished(SWEEP) if units is None else units
        self.finished = {number: unit for number, unit in finished.items() if number in planned}
        while self.stop is None and self.units in self.finished:
            self._take(self.finished[self.units])
            self.units += 1
            if self._due() and self._enough:
                self.stop = self.units
        return self

    @property
    def needed(self) -> int:
        """How many units the run needs, the first of all: what was done beyond the stop does not count."""
        return len(self.design.units) if self.stop is None else self.stop

    @property
    def used(self) -> list[Unit]:
        """Finished units that count, in their order."""
        return [unit for number, unit in sorted(self.finished.items()) if number < self.needed]

    @property
    def missing(self) -> list[int]:
        """Units that the run needs and that were not there when last looked."""
        return [number for number in range(self.needed) if number not in self.finished]

    @property
    def done(self) -> bool:
        """Whether no more units are needed."""
        return not self.missing

    @cached_property
    def rule(self) -> StopRule | None:
        """When to stop; None for a run that goes on to its end."""
        until = self.design.until
        return None if until is None else StopRule(until.target, len(self.documents))

    def card(self, filter: int) -> Summed:
        """Estimate of the repaired fraction of all heads together, under one filter, over the documents so far; in two
        phases from the exact part alone, but for the filter that the rule looks at."""
        until = self.design.until
        if self.design.watches_estimates and until is not None and filter == until.filter:
            return TwoPhaseMoments.of_ratio(self._phases, self._of_heads(self._estimated)[..., LOST].sum(1))
        return Moments.of(*self._all[:, :, filter])

    @property
    def watched(self) -> Summed:
        """Estimates of the numbers that the rule is about: [] or [head]."""
        until = self.design.until
        assert until is not None
        if until.of == "card":
            return self.card(until.filter)
        if self.design.watches_estimates:
            return TwoPhaseMoments.of_means(self._phases)
        exact = self._of_heads(self._heads)
        return Moments.of(exact[..., REPAIR], exact[..., TOKENS])

    @property
    def _phases(self) -> PhaseSums:
        """Self-repair by both phases [document, head]."""
        exact, cheap = self._of_heads(self._heads), self._of_heads(self._estimated)
        return PhaseSums(cheap[..., REPAIR], exact[..., REPAIR], cheap[..., TOKENS], exact[..., TOKENS])

    def _of_heads(self, sums: np.ndarray) -> np.ndarray:
        """Those of the run's heads, or other interventions, [document, head, column]."""
        layers, heads = np.transpose(self.design.heads)
        return np.asarray(sums[:, layers, heads])

    @property
    def sequence(self) -> Estimate:
        """These numbers with intervals that hold at every look, so at the stop too."""
        assert self.rule is not None
        return confidence_sequence(self.watched, self.rule.planned, ratio=self._is_ratio)

    @property
    def _is_ratio(self) -> bool:
        until = self.design.until
        return until is not None and until.of == "card"

    def _due(self) -> bool:
        """Whether the rule looks after the units so far."""
        documents = int(np.count_nonzero(self._seen))
        if self.rule is None or not self.rule.due(documents, self._last):
            return False
        self._last = documents
        return True

    @property
    def _enough(self) -> bool:
        assert self.rule is not None
        return bool(self.rule.reached(self.watched, ratio=self._is_ratio).all())

    def _take(self, unit: Unit) -> None:
        columns = np.searchsorted(self.documents, unit.get("documents"))
        sums = {name: unit.get(name) for name in self._wanted}  # all of them, before any is added
        self._seen[columns] = True
        self._all[:, columns] += np.moveaxis(sums[ALL_HEADS], -1, 0)
        if EACH_HEAD in sums:
            self._heads[columns] += sums[EACH_HEAD]
        if ESTIMATED in sums:
            self._estimated[columns] += sums[ESTIMATED]

    @property
    def _wanted(self) -> list[str]:
        """The sums that are read of each unit."""
        return [ALL_HEADS, *([EACH_HEAD] if self._heads.size else []), *([ESTIMATED] if self._estimated.size else [])]

    def describe(self) -> str:
        """The current estimate of what is being measured; empty before there are two documents."""
        until = self.design.until
        index = self.design.main_filter if until is None else until.filter
        label = self.design.filters[index].label
        interval = self.card(index).ratio() if until is None or until.of == "heads" else self.sequence
        if not np.isfinite(interval.low) or not np.isfinite(interval.high):
            return ""
        line = f"{label}: {100 * float(interval.value):.1f}% repaired ({100 * float(interval.low):.1f} to "
        documents = int(np.count_nonzero(self._seen) if self.design.watches_estimates else interval.documents)
        return f"{line}{100 * float(interval.high):.1f}) over {documents:,} documents"
