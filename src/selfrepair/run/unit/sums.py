"""Results of one unit of work: sums per document, kept tokens with their ledgers, lines of components."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from scipy.sparse import csr_matrix

from selfrepair.run.planning.job import Job
from selfrepair.run.storage.split_documents import SHARED
from selfrepair.run.storage.unit_file import Arrays
from selfrepair.run.unit.passages import Passages
from selfrepair.run.unit.running_sums import RunningSums
from selfrepair.run.unit.surrogate_sums import SurrogateSums
from selfrepair.run.unit.thresholds import KEEP
from selfrepair.run.unit.whole_sums import WholeSums
from selfrepair.statistics.accumulate import DocumentSums, TokenEffects, line_moments
from selfrepair.statistics.curves import CurveMoments
from selfrepair.statistics.features import FEATURES, features
from selfrepair.statistics.filters import choosing_kinds
from selfrepair.statistics.keep import KeptTokens, in_sample
from selfrepair.statistics.keep_limits import near_limits

ALL_HEADS, EACH_HEAD, ESTIMATED = "running/all", "running/heads", "running/estimated"  # sums of the run so far


class UnitSums:
    """Books chunks of a unit's ledgers.

    Args:
        job: the run.
        number: number of the unit.
        surveyed: from `selfrepair.run.unit.thresholds.thresholds`.
    """

    def __init__(self, job: Job, number: int, surveyed: Arrays) -> None:
        self.windows, self.negligible, self.sparse = job.units[number], job.negligible, job.sparse
        self._index_of = {int(window): index for index, window in enumerate(self.windows)}
        scored, documents = job.scored[self.windows], job.documents[self.windows]
        self.documents, inverse = np.unique(documents[scored], return_inverse=True)
        self.shared = np.isin(self.documents, list(job.last_units))
        self._rows = np.full(scored.shape, -1, np.int64)
        self._rows[scored] = inverse
        counted = job.counted[self.windows]
        self._rows[~counted] = -1
        self.sums = np.zeros((len(self.documents), *job.shape, len(FEATURES)))
        phases = job.plan["phases"]
        of_tokens, of_all = (phases is not None and bool(phases[name]) for name in ("words", "words_of_all"))
        limits = {kind: surveyed[f"{KEEP}{kind}"] for kind in choosing_kinds(job.filters)}
        near = near_limits(job.filters, limits, job.shape)
        self.lines = (
            DocumentSums(
                *(job.filters, surveyed["thresholds"], counted, documents),
                *(job.shape, job.components, near, job.model_shape),
                every=None if of_tokens else self.documents,
            )
            if counted.any()
            else None
        )
        self.surrogate = SurrogateSums(job, number, surveyed) if of_tokens and scored.any() else None
        self.whole = WholeSums(job, self.documents) if of_all and scored.any() else None
        self.passages = Passages(job)
        self.edges: np.ndarray = surveyed["curve_edges"]
        bins = self.edges.shape[-1] + 1
        self.curve = np.zeros((2, len(self.documents), bins, *job.shape))  # sums of self-repair; tokens
        self.filters, self.thresholds = job.filters, surveyed["thresholds"]
        self.all_heads = np.zeros((len(self.documents), len(job.filters), 2))  # self-repair; lost direct effect
        self.each_head = self._watched(job)
        self.kept = KeptTokens(
            job.filters,
            limits,
            tokens=job.windows.tokens[self.windows],
            documents=documents,
            scored=counted,
            sampled=in_sample(job.sample, self.windows, scored.shape[1]),
            numbers=self.windows,
        )

    def _watched(self, job: Job) -> RunningSums | None:
        """Sums head by head that decide whether the run stops early; None where others do."""
        until = job.until
        if until is None or not (until.of == "heads" or job.watches_estimates):
            return None
        thresholds = self.thresholds[until.filter]
        return RunningSums(self.filters[until.filter], thresholds, self._rows, len(self.documents))

    def add(self, effects: TokenEffects) -> None:
        """Books a chunk; its windows are numbers of the corpus."""
        if self.lines is None:
            return
        self.passages.add(effects)
        local = self._local(effects)
        self.kept.add(local)
        self.lines.add(local)
        self._add_features(local)
        if self.each_head is not None:
            self.each_head.add(local)

    def add_surrogate(self, effects: TokenEffects) -> None:
        """Books a surrogate's chunk; its windows are numbers of the corpus."""
        if self.surrogate is not None:
            self.surrogate.add(self._local(effects))

    def _local(self, effects: TokenEffects) -> TokenEffects:
        """The same with windows by their places in the unit."""
        return replace(effects, windows=np.array([self._index_of[int(window)] for window in effects.windows]))

    def _add_features(self, effects: TokenEffects) -> None:
        """Sums of features per document over all scored tokens."""
        rows = self._rows[effects.windows].reshape(-1)
        tokens = np.flatnonzero(rows >= 0)
        shape = (len(self.documents), len(rows))
        by_document = csr_matrix((np.ones(len(tokens)), (rows[tokens], tokens)), shape=shape)
        for index, head in enumerate(effects.heads):
            quantities = {name: v[index].reshape(-1) for name, v in effects.quantities.items()}
            effect = quantities["direct_effect"].astype(np.float32)  # as in the survey, which the edges are from
            self.sums[:, effects.layer, head] += by_document @ features(quantities, self.negligible)
            self._add_running((effects.layer, int(head)), rows[tokens], {n: v[tokens] for n, v in quantities.items()})
            bins = np.searchsorted(self.edges[effects.layer, head], effect[tokens], side="right")
            cells = (rows[tokens], bins)
            if self.sparse:
                continue
            np.add.at(self.curve[0, :, :, effects.layer, head], cells, quantities["self_repair"][tokens])
            np.add.at(self.curve[1, :, :, effects.layer, head], cells, 1)

    def _add_running(self, head: tuple[int, int], documents: np.ndarray, quantities: Arrays) -> None:
        """Sums of a head's tokens under each filter, its threshold held fixed.

        Args:
            head: (layer, head).
            documents: [token], indices on the document axis.
            quantities: quantities by name [token].
        """
        effect = quantities["direct_effect"].astype(np.float32)[None, None]
        lost = quantities["direct_effect"].astype(np.float64) - quantities["ablated_direct_effect"]
        for index, filter_ in enumerate(self.filters):
            limit = self.thresholds[index][head]
            passing = filter_.mask(effect, np.array([limit]), np.ones(effect.shape[1:], bool))[0, 0]
            repair, damage = (
                self._summed(documents, np.where(passing, v, 0)) for v in (quantities["self_repair"], lost)
            )
            self.all_heads[:, index] += np.stack([repair, damage], -1)

    def _summed(self, documents: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.bincount(documents, values, minlength=len(self.documents))

    def arrays(self) -> Arrays:
        """The unit as arrays.

        Returns:
            `documents` [document]; `features` [document, layer, head, feature] summed over scored tokens;
            `running/all` [document, filter, (self-repair, lost direct effect)] summed over the filters' tokens of all
            heads, thresholds held fixed; `running/heads` [document, layer, head, (self-repair, tokens, lost direct
            effect)] of the filter that a run which may stop early looks at, head by head, and `running/estimated` the
            same by the surrogate, of all documents;
            `rows/L/<column>` kept tokens of layer L; `lines/<name>/<moment>` moments of the component lines
            [filter, layer, head, by_layer(, by_head)] and `curve/<moment>` moments of self-repair by bin of direct
            effect [bin, layer, head] over the documents that lie in this unit alone (but over all documents the sums
            of `DocumentSums.edges`); of the others, whose sums are to be joined first, `shared/documents` [document],
            `shared/lines/<name>` and `shared/curve/<name>` [document, ...]; `passages/L/<column>` all tokens of a few
            windows. In two phases all of these are of the exact part but for lines, which are estimated from both
            phases, and there is what `SurrogateSums.arrays` and `WholeSums.arrays` have.
        """
        whole, shared = np.flatnonzero(~self.shared), np.flatnonzero(self.shared)
        arrays: Arrays = {"documents": self.documents, "features": self.sums}
        arrays[f"{SHARED}documents"] = self.documents[shared]
        arrays[ALL_HEADS] = self.all_heads
        if self.each_head is not None:
            arrays[EACH_HEAD] = self.each_head.sums
        if (estimated := self._estimated()) is not None:
            arrays[ESTIMATED] = estimated
        curve = CurveMoments.of(*self.curve[:, whole])
        arrays |= {f"curve/{field.name}": getattr(curve, field.name) for field in fields(CurveMoments)}
        arrays |= {f"{SHARED}curve/{name}": self.curve[index, shared] for index, name in enumerate(("y", "x"))}
        arrays |= self.kept.arrays() | self.passages.arrays()
        lines = self.lines if self.surrogate is None else self.surrogate.estimated_lines(self.lines)
        if lines is not None:
            moments = line_moments(lines.arrays(whole)) | lines.edges
            arrays |= {f"lines/{name}": v for name, v in moments.items()}
            arrays |= {f"{SHARED}lines/{name}": v for name, v in lines.arrays(shared).items()}
        arrays |= {} if self.surrogate is None else self.surrogate.arrays()
        return arrays if self.whole is None else arrays | self.whole.arrays()

    def _estimated(self) -> np.ndarray | None:
        """What `each_head` has, by the surrogate that estimates it; None where none does."""
        if self.surrogate is not None and self.surrogate.running is not None:
            return self.surrogate.running.sums
        return None if self.whole is None else self.whole.running()
