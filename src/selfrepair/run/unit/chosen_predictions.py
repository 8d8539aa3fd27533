"""Which predictions are computed where not all are: those that some filter may count, and sampled ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from selfrepair.ablation.interventions import Intervention
from selfrepair.engine.accounts import direct_effects
from selfrepair.engine.clean import CleanRun
from selfrepair.run.planning.job import Job
from selfrepair.run.storage.unit_file import Arrays
from selfrepair.run.unit.thresholds import KEEP
from selfrepair.statistics.filters import choosing_kinds
from selfrepair.statistics.keep import in_sample
from selfrepair.statistics.keep_limits import widest


@dataclass(frozen=True)
class Chosen:
    """Predictions of a batch, by intervention.

    Attributes:
        masks: bool [window, P] of each.
        device: where masks are wanted.
    """

    masks: dict[Intervention, Tensor]
    device: torch.device

    def of(self, interventions: Sequence[Intervention]) -> Tensor:
        """Those of some interventions, bool [intervention, window, P]."""
        return torch.stack([self.masks[intervention] for intervention in interventions]).to(self.device)


def chosen_predictions(job: Job, surveyed: Arrays, clean: CleanRun, windows: np.ndarray) -> Chosen:
    """The predictions that are kept: beyond a filter's limit, or (for a run of its own) in the uniform sample.

    Args:
        job: the run.
        surveyed: from `selfrepair.run.unit.thresholds.thresholds`.
        clean: clean run of the batch.
        windows: numbers of its windows.
    """
    scored, filters = job.scored[windows], widest(job.filters)
    limits = {kind: surveyed[f"{KEEP}{kind}"] for kind in choosing_kinds(job.filters)}
    sampled = np.zeros_like(scored)
    if job.surrogates.tokens is None:
        sampled = in_sample(job.sample, windows, scored.shape[1])
    effects = direct_effects(clean, job.interventions).cpu().numpy().astype(np.float32)  # as in the survey
    masks = {}
    for intervention, effect in zip(job.interventions, effects, strict=True):
        passing = sampled.copy()
        for filter_ in filters:
            passing |= filter_.passes(effect, limits[filter_.kind][job.cells[intervention]])
        masks[intervention] = torch.from_numpy(passing & scored)
    return Chosen(masks, clean.sigma.device)
