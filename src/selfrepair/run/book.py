"""What one unit of work leaves behind: sums per document, kept tokens with their ledgers, lines of components."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from scipy.sparse import csr_matrix

from selfrepair.run.job import Job
from selfrepair.run.passages import Passages
from selfrepair.run.store import Arrays
from selfrepair.statistics.accumulate import DocumentSums, TokenEffects
from selfrepair.statistics.curves import Moments
from selfrepair.statistics.features import FEATURES, features
from selfrepair.statistics.keep import KeepThresholds, KeptTokens


class UnitBook:
    """Books chunks of a unit's ledgers.

    Args:
        job: the run.
        number: which unit.
        surveyed: from `selfrepair.run.thresholds.thresholds`.
    """

    def __init__(self, job: Job, number: int, surveyed: Arrays) -> None:
        self.windows, self.negligible = job.units[number], job.negligible
        self._place = {int(window): place for place, window in enumerate(self.windows)}
        scored, documents = job.scored[self.windows], job.documents[self.windows]
        self.documents, inverse = np.unique(documents[scored], return_inverse=True)
        self._rows = np.full(scored.shape, -1, np.int64)
        self._rows[scored] = inverse
        self.sums = np.zeros((len(self.documents), *job.shape, len(FEATURES)))
        self.lines = (
            DocumentSums(job.filters, surveyed["thresholds"], scored, documents, job.shape, job.components)
            if scored.any()
            else None
        )
        self.passages = Passages(job)
        self.edges: np.ndarray = surveyed["curve_edges"]
        bins = self.edges.shape[-1] + 1
        self.curve = np.zeros((2, len(self.documents), bins, *job.shape))  # sums of self-repair; tokens
        keep = [None if np.isnan(surveyed[name]).all() else surveyed[name] for name in ("keep_top", "keep_bottom")]
        self.kept = KeptTokens(
            KeepThresholds(*keep),
            tokens=job.windows.tokens,
            documents=job.documents,
            names=job.windows.names,
            scored=job.scored,
            sample=job.plan["sample"],
            seed=job.plan["seed"],
        )

    def add(self, effects: TokenEffects) -> None:
        """Books a chunk; its windows are the corpus' numbers."""
        if self.lines is None:
            return
        self.kept.add(effects)
        self.passages.add(effects)
        local = replace(effects, windows=np.array([self._place[int(window)] for window in effects.windows]))
        self.lines.add(local)
        self._add_features(local)

    def _add_features(self, effects: TokenEffects) -> None:
        """Sums of features per document over all scored tokens."""
        rows = self._rows[effects.windows].reshape(-1)
        tokens = np.flatnonzero(rows >= 0)
        shape = (len(self.documents), len(rows))
        by_document = csr_matrix((np.ones(len(tokens)), (rows[tokens], tokens)), shape=shape)
        for place, head in enumerate(effects.heads):
            quantities = {name: v[place].reshape(-1) for name, v in effects.quantities.items()}
            effect = quantities["direct_effect"].astype(np.float32)  # as the survey's, which edges are from
            self.sums[:, effects.layer, head] += by_document @ features(quantities, self.negligible)
            bins = np.searchsorted(self.edges[effects.layer, head], effect[tokens], side="right")
            cells = (rows[tokens], bins)
            np.add.at(self.curve[0, :, :, effects.layer, head], cells, quantities["self_repair"][tokens])
            np.add.at(self.curve[1, :, :, effects.layer, head], cells, 1)

    def arrays(self) -> Arrays:
        """The unit as arrays.

        Returns:
            `documents` [document]; `features` [document, layer, head, feature] summed over scored tokens;
            `rows/L/<column>` kept tokens of layer L; `lines/<name>/<moment>` moments over documents of the
            component lines [filter, layer, head, by_layer(, by_head)]; `curve/<moment>` moments of self-repair by
            bin of direct effect [bin, layer, head]; `passages/L/<column>` all tokens of a few windows.
        """
        arrays: Arrays = {"documents": self.documents, "features": self.sums}
        curve = Moments.of(*self.curve)
        arrays |= {f"curve/{one.name}": getattr(curve, one.name) for one in fields(Moments)}
        arrays |= self.kept.arrays() | self.passages.arrays()
        return arrays | (self.lines.moments() if self.lines is not None else {})
