"""What a unit keeps of a surrogate of all tokens: sums of features over the scored tokens of every document."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from selfrepair.effects.lines import LINES
from selfrepair.engine.accounts import direct_effects
from selfrepair.engine.clean import CleanRun
from selfrepair.engine.contract import Replacement
from selfrepair.engine.surrogates import SumSurrogate
from selfrepair.model.ports import Port
from selfrepair.run.planning.job import Job
from selfrepair.run.storage.unit_file import Arrays
from selfrepair.statistics.features import FEATURES, INDEX

SUMS = "whole/features"


class WholeSums:
    """Books sums of a unit.

    Args:
        job: the run.
        documents: the unit's documents, in the order of the document axis.
    """

    def __init__(self, job: Job, documents: np.ndarray) -> None:
        self._job, self._documents = job, documents
        self._sums = np.zeros((len(documents), *job.shape, len(FEATURES)))

    def add(
        self, surrogate: SumSurrogate, clean: CleanRun, windows: np.ndarray, in_place: Sequence[Replacement]
    ) -> None:
        """Books a batch.

        Args:
            surrogate: estimates the sums.
            clean: clean run of the batch.
            windows: numbers of its windows.
            in_place: the sites' replacements, of each draw.
        """
        job, interventions = self._job, self._job.interventions
        rows, groups = self._groups(windows)
        device = clean.sigma.device
        found = [
            surrogate.sums(job.model, clean, interventions, replaced, torch.from_numpy(groups).to(device))
            for replaced in in_place
        ]
        estimated = {name: np.mean([draw[name].cpu().numpy() for draw in found], 0) for name in found[0]}
        before = direct_effects(clean, interventions).cpu().numpy().astype(np.float64)
        after = np.mean([_replaced_effects(job, clean, draw).cpu().numpy() for draw in in_place], 0)
        columns = self._columns(before, after, groups, estimated)
        for number, intervention in enumerate(interventions):
            cell = job.cells[intervention]
            for name, values in columns.items():
                np.add.at(self._sums[:, *cell, INDEX[name]], rows[rows >= 0], values[number][rows >= 0])

    def _groups(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the documents of each window's groups [group, window], -1 for none, and their predictions, bool
        [group, window, P]: the first document of each window, the second, and so on."""
        scored, documents = self._job.scored[windows], self._job.documents[windows]
        present = [np.unique(own[counts]) for own, counts in zip(documents, scored, strict=True)]
        rows = np.full((max(1, *map(len, present)), len(windows)), -1)
        groups = np.zeros((*rows.shape, scored.shape[1]), bool)
        for window, names in enumerate(present):
            for group, name in enumerate(names):
                rows[group, window] = np.searchsorted(self._documents, name)
                groups[group, window] = scored[window] & (documents[window] == name)
        return rows, groups

    def _columns(self, before: np.ndarray, after: np.ndarray, groups: np.ndarray, estimated: Arrays) -> Arrays:
        """Sums by feature [intervention, group, window]: exact ones of the clean run and of what is put in, and
        estimated ones.

        Args:
            before: clean direct effects [intervention, window, P].
            after: those of what is put in.
            groups: bool [group, window, P].
            estimated: the surrogate's sums by name [intervention, group, window].
        """

        def summed(values: np.ndarray) -> np.ndarray:
            return np.asarray(np.einsum("gwp,iwp->igw", groups, values))

        lost = before - after
        columns = {
            "count": np.broadcast_to(groups.sum(-1), (len(before), *groups.shape[:2])),
            "direct_effect": summed(before),
            "ablated_direct_effect": summed(after),
            "lost": summed(lost),
            "direct_effect_squared": summed(before**2),
            "lost_squared": summed(lost**2),
            "total_effect": estimated["total_effect"],
        }
        columns["self_repair"] = columns["total_effect"] + columns["lost"]
        left = columns["self_repair"]
        for line in LINES[1:]:
            columns[line.quantity] = estimated.get(line.name, np.zeros_like(left))
            left = left - columns[line.quantity]
        return columns | {LINES[0].quantity: left}

    def running(self) -> np.ndarray | None:
        """Sums as `RunningSums` has them, where a run that may stop early looks at all tokens; None elsewhere."""
        until = self._job.until
        if until is None or self._job.filters[until.filter].chooses:
            return None
        return np.asarray(self._sums[..., [INDEX[name] for name in ("self_repair", "count", "lost")]])

    def arrays(self) -> Arrays:
        """`whole/features` [document, layer, head, feature]; those that a surrogate does not have are zero."""
        return {SUMS: self._sums}


def _replaced_effects(job: Job, clean: CleanRun, replacement: Replacement) -> Tensor:
    """Direct effects of what is put in the heads' places, [intervention, window, P]."""
    layers = sorted({layer for layer, _ in job.heads})
    effects = {layer: clean.direct_effects(layer, replacement(Port(layer, "heads"))) for layer in layers}
    return torch.stack([effects[head.layer][..., head.head] for head in job.heads])
