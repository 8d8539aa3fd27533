"""Sums of a unit that tell a run that may stop early how far it is: per document and head, over one filter's tokens."""

from __future__ import annotations

import numpy as np

from selfrepair.statistics.accumulate import TokenEffects
from selfrepair.statistics.filters import Filter

REPAIR, TOKENS, LOST = 0, 1, 2  # columns


class RunningSums:
    """Sums over the tokens of a filter, whose thresholds are held fixed.

    Args:
        filter_: the filter.
        thresholds: its thresholds [layer, head].
        rows: each prediction's place on the document axis, -1 for those that do not count [window, P].
        documents: how many documents there are.

    Attributes:
        sums: [document, layer, head, (self-repair, tokens, lost direct effect)].
    """

    def __init__(self, filter_: Filter, thresholds: np.ndarray, rows: np.ndarray, documents: int) -> None:
        self._filter, self._thresholds, self._rows = filter_, thresholds, rows
        self.sums = np.zeros((documents, *thresholds.shape, 3))

    def add(self, effects: TokenEffects) -> None:
        """Adds a chunk; its windows are places among those of `rows`."""
        rows = self._rows[effects.windows].reshape(-1)
        tokens = np.flatnonzero(rows >= 0)
        for index, head in enumerate(effects.heads):
            cell = effects.layer, int(head)
            values = {name: quantity[index].reshape(-1)[tokens] for name, quantity in effects.quantities.items()}
            before = values["direct_effect"].astype(np.float32)  # as in the survey, which thresholds are from
            passing = self._filter.passes(before, self._thresholds[cell])
            lost = values["direct_effect"].astype(np.float64) - values["ablated_direct_effect"]
            for column, summed in ((REPAIR, values["self_repair"]), (TOKENS, passing), (LOST, lost)):
                self.sums[(slice(None), *cell, column)] += np.bincount(
                    rows[tokens], np.where(passing, summed, 0), minlength=len(self.sums)
                )
