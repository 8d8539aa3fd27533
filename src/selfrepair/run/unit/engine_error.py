"""The error of an engine that is not exact, on a sample of its own (head, token) pairs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from selfrepair.ablation.units import Head
from selfrepair.effects.ledger import Ledger
from selfrepair.engine import ReplayEngine
from selfrepair.engine.clean import CleanRun, clean_run
from selfrepair.run.planning.job import Job
from selfrepair.run.unit.exactness import Sampled, rounding

_HEADS = 4


class ErrorSample:
    """Some heads on the first window of a batch: as the engine had them, and as replay has them.

    Args:
        job: the run.
        clean: of the batch.
        heads: which.
    """

    def __init__(self, job: Job, clean: CleanRun, heads: list[Head]) -> None:
        self._job, self._clean, self._heads = job, clean, heads
        self._seen: dict[Head, Tensor] = {}

    @classmethod
    def of(cls, job: Job, clean: CleanRun, seed: int) -> ErrorSample | None:
        """A random sample; None for an engine that is exact. One that does not say so is not."""
        if getattr(job.engine, "exact", False):
            return None
        chosen = np.random.default_rng(seed).choice(len(job.heads), min(_HEADS, len(job.heads)), replace=False)
        return cls(job, clean, [job.heads[place] for place in sorted(chosen)])

    def see(self, ledger: Ledger) -> None:
        """Keeps what the engine found of the sample's heads."""
        for place, head in enumerate(ledger.heads):
            if Head(ledger.layer, head) in self._heads:
                self._seen[Head(ledger.layer, head)] = ledger.total_effect[place, 0].clone()

    def compared(self, replacement: Callable[[int], Tensor]) -> Sampled:
        """The engine's effects against replay's, position 0 left out; infinitely wrong where it gave none.

        Args:
            replacement: what was put in the heads' places, for the whole batch.
        """
        model = self._job.model
        clean = clean_run(model, self._clean.tokens[:1])
        ledgers = ReplayEngine(fold=1).sweep(model, clean, self._heads, lambda layer: replacement(layer)[:1], False)
        truth = {(o.layer, h): o.total_effect[i, 0] for o in ledgers for i, h in enumerate(o.heads)}
        effects = torch.stack([truth[head] for head in self._heads])[:, 1:].double()
        nothing = torch.full_like(clean.scaled_logit[0], torch.inf)
        found = torch.stack([self._seen.get(head, nothing) for head in self._heads])[:, 1:].double()
        left = rounding(clean)[0, 1:].double()
        return Sampled(*(float(one.square().mean()) for one in (found - effects, effects, left)))
