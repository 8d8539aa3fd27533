"""What a unit keeps of a surrogate: its kept tokens, and component lines estimated from both phases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from selfrepair.run.planning.job import Job
from selfrepair.run.storage.unit_file import Arrays
from selfrepair.run.unit.running_sums import RunningSums
from selfrepair.run.unit.thresholds import EXPANSION, KEEP
from selfrepair.statistics.accumulate import DocumentSums, TokenEffects
from selfrepair.statistics.filters import choosing_kinds
from selfrepair.statistics.keep import KeptTokens
from selfrepair.statistics.keep_limits import near_limits

ROWS, SCORED = "surrogate", "surrogate/scored"
IN_PART = "in_part"


@dataclass(frozen=True)
class EstimatedLines:
    """Sums of lines per document that add up to estimated ones, as `DocumentSums` has them.

    Attributes:
        sums: `count` and the names of the lines to [document, filter, ...]; `scored` [document, layer, head].
        edges: see `DocumentSums`; where there is an exact part also `in_part`, its tokens in each filter
            [filter, layer, head], and by line `<name>/in_part`, sums of what its exact lines differ by.
    """

    sums: Arrays
    edges: Arrays

    def arrays(self, documents: np.ndarray) -> Arrays:
        """Those of some documents."""
        return {name: values[documents] for name, values in self.sums.items()}


class SurrogateSums:
    """Books a surrogate's chunks of a unit, of all its documents.

    Args:
        job: the run.
        number: number of the unit.
        surveyed: from `selfrepair.run.unit.thresholds.thresholds`.
    """

    def __init__(self, job: Job, number: int, surveyed: Arrays) -> None:
        windows = job.units[number]
        scored, counted, documents = (of_text[windows] for of_text in (job.scored, job.counted, job.documents))
        limits = {kind: surveyed[f"{KEEP}{kind}"] for kind in choosing_kinds(job.filters)}
        chooses = np.array([filter_.chooses for filter_ in job.filters])
        self._choosing, self._others = np.flatnonzero(chooses), np.flatnonzero(~chooses)
        self._expansion: np.ndarray = surveyed[EXPANSION][self._choosing]
        self._counted = counted.any(1)
        filters, near = [job.filters[i] for i in self._choosing], near_limits(job.filters, limits, job.shape)
        shapes = (job.shape, job.components, near[self._choosing], job.model_shape)
        thresholds = surveyed["thresholds"][self._choosing]
        self.lines = DocumentSums(filters, thresholds, scored, documents, *shapes)
        self.in_part = DocumentSums(filters, thresholds, counted, documents, *shapes) if counted.any() else None
        self.running = self._watched(job, surveyed["thresholds"], scored, documents)
        self.kept = KeptTokens(
            filters,
            limits,
            tokens=job.windows.tokens[windows],
            documents=documents,
            scored=scored,
            sampled=np.zeros_like(scored),
            numbers=windows,
        )

    def _watched(
        self, job: Job, thresholds: np.ndarray, scored: np.ndarray, documents: np.ndarray
    ) -> RunningSums | None:
        """Sums that decide, with exact ones, whether the run stops early; None where others do."""
        until = job.until
        if until is None or not job.filters[until.filter].chooses:
            return None
        present = self.lines.document_ids
        rows = np.where(scored, np.searchsorted(present, documents), -1)
        return RunningSums(job.filters[until.filter], thresholds[until.filter], rows, len(present))

    def add(self, effects: TokenEffects) -> None:
        """Books a chunk; its windows are places in the unit, and all or none of them are in the exact part."""
        self.kept.add(effects)
        self.lines.add(effects)
        if self.running is not None:
            self.running.add(effects)
        if self.in_part is not None and self._counted[effects.windows].all():
            self.in_part.add(effects)

    def arrays(self) -> Arrays:
        """Kept tokens of all documents, `surrogate/L/<column>`, and how many tokens there are, `surrogate/scored`
        [document, layer, head]."""
        kept = {f"{ROWS}{name.removeprefix('rows')}": values for name, values in self.kept.arrays().items()}
        return kept | {SCORED: self.lines.scored_counts.astype(np.int32)}

    def estimated_lines(self, exact: DocumentSums | None) -> EstimatedLines:
        """Sums per document: the surrogate's, and in the part what the exact ones differ by, times the filter's tokens
        over those of its part in the whole text. Heads that were not reached keep the surrogate's.

        Args:
            exact: sums of the part, of all filters.
        """
        sums = self._spread(self.lines, self._choosing, len(self.lines.document_ids))
        edges = {name: self._by_filter(values, self._choosing) for name, values in self.lines.edges.items()}
        if exact is None or self.in_part is None:
            return EstimatedLines(sums, edges)
        rows = np.searchsorted(self.lines.document_ids, exact.document_ids)
        done = (exact.scored_counts == self.in_part.scored_counts)[:, None]
        edges[IN_PART] = self._by_filter(np.where(done, self.in_part.counts, 0).sum(0), self._choosing)
        for name, lines in exact.component_sums.items():
            beside = (..., *(np.newaxis,) * (lines.ndim - done.ndim))
            difference = np.where(done[beside], lines[:, self._choosing] - self.in_part.component_sums[name], 0)
            edges[f"{name}/{IN_PART}"] = self._by_filter(difference.sum(0, dtype=np.float64), self._choosing)
            sums[name][np.ix_(rows, self._choosing)] += (self._expansion[beside] * difference).astype(np.float32)
            sums[name][np.ix_(rows, self._others)] = lines[:, self._others]
        sums["count"][np.ix_(rows, self._others)] = exact.counts[:, self._others]
        for name, values in exact.edges.items():
            edges[name][self._others] = values[self._others]
        return EstimatedLines(sums, edges)

    def _spread(self, sums: DocumentSums, filters: np.ndarray, documents: int) -> Arrays:
        """Sums of some filters among those of all."""
        arrays = sums.arrays()
        every = {"scored": arrays.pop("scored")}
        for name, values in arrays.items():
            full = np.zeros((documents, self._number, *values.shape[2:]), values.dtype)
            full[:, filters] = values
            every[name] = full
        return every

    def _by_filter(self, values: np.ndarray, filters: np.ndarray) -> np.ndarray:
        full = np.zeros((self._number, *values.shape[1:]), values.dtype)
        full[filters] = values
        return full

    @property
    def _number(self) -> int:
        return len(self._choosing) + len(self._others)


def of_these_documents(lines: Arrays, expansion: np.ndarray) -> Arrays:
    """Moments of estimated lines whose sums are those that the documents at hand give: on fewer documents than the
    whole text, a filter's tokens over those of its part are another factor.

    Args:
        lines: moments and edges of all units, by name.
        expansion: the factor in them, of the whole text [filter, layer, head].
    """
    counted = lines.get(IN_PART)
    if counted is None:
        return lines
    now = lines["count"] / np.where(counted > 0, counted, 1)
    change = np.where(counted > 0, now - np.nan_to_num(expansion), 0.0)
    adjusted = dict(lines)
    for name in lines:
        if name.endswith(f"/{IN_PART}"):
            total = name.replace(f"/{IN_PART}", "/sum")
            beside = (..., *(np.newaxis,) * (lines[name].ndim - change.ndim))
            adjusted[total] = lines[total] + change[beside] * lines[name]
    return adjusted
