"""The error of an engine that is not exact, on a sample of its own (head, token) pairs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from selfrepair.ablation.interventions import Intervention, ports_of
from selfrepair.effects.ledger import Ledger
from selfrepair.engine import ReplayEngine
from selfrepair.engine.beginnings import beginning_of
from selfrepair.engine.clean import CleanRun, clean_run
from selfrepair.engine.contract import Replacement, is_exact
from selfrepair.run.planning.job import Job
from selfrepair.run.unit.exactness import Sampled, ledger_rounding

_SAMPLED = 4  # ablated runs


class ErrorSample:
    """Some heads on the first window of a batch: effects from the engine, and from replay.

    Args:
        job: the run.
        clean: clean run of the batch.
        interventions: the sampled interventions.
    """

    def __init__(self, job: Job, clean: CleanRun, interventions: list[Intervention]) -> None:
        self._job, self._clean, self._chosen = job, clean, interventions
        self._seen: dict[Intervention, Tensor] = {}

    @classmethod
    def of(cls, job: Job, clean: CleanRun, seed: int) -> ErrorSample | None:
        """A random sample; None for an engine that declares itself exact."""
        if is_exact(job.engine):
            return None
        every = job.interventions
        chosen = np.random.default_rng(seed).choice(len(every), min(_SAMPLED, len(every)), replace=False)
        return cls(job, clean, [every[index] for index in sorted(chosen)])

    def sweep(self, replacement: Replacement) -> None:
        """Computes the engine's effects on the sample, where a run computes chosen predictions only.

        Args:
            replacement: the sites' replacements, for the whole batch.
        """
        job, clean = self._job, beginning_of(self._clean, [0])
        for ledger in job.engine.sweep(job.model, clean, self._chosen, lambda port: replacement(port)[:1], False):
            self.see(ledger)

    def see(self, ledger: Ledger) -> None:
        """Keeps the engine's effects on the sample."""
        for index, intervention in enumerate(ledger.interventions):
            if intervention in self._chosen:
                self._seen[intervention] = ledger.total_effect[index, 0].clone()

    def compared(self, replacement: Replacement) -> Sampled:
        """The engine's effects against replay's, position 0 left out; an infinite error if it gave none.

        Args:
            replacement: the sites' replacements, for the whole batch.
        """
        model = self._job.model
        clean = clean_run(model, self._clean.tokens[:1], ports=ports_of(self._chosen))
        ledgers = ReplayEngine(fold=1).sweep(model, clean, self._chosen, lambda port: replacement(port)[:1], False)
        truth = {
            intervention: ledger.total_effect[i, 0]
            for ledger in ledgers
            for i, intervention in enumerate(ledger.interventions)
        }
        effects = torch.stack([truth[intervention] for intervention in self._chosen])[:, 1:].double()
        nothing = torch.full_like(clean.scaled_logit[0], torch.inf)
        seen = torch.stack([self._seen.get(intervention, nothing) for intervention in self._chosen])[:, 1:].double()
        left = ledger_rounding(clean)[0, 1:].double()
        return Sampled(*(float(values.square().mean()) for values in (seen - effects, effects, left)))
