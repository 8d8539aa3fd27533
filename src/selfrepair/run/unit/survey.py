"""The survey, one clean pass: every head's direct effects, sums for the mean operators, and the model's own loss."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from selfrepair.ablation.interventions import ports_of
from selfrepair.ablation.operators import POSITION_MEANS
from selfrepair.engine.accounts import direct_effects
from selfrepair.engine.clean import CleanRun, clean_run, require_own_forward
from selfrepair.errors import SelfRepairError
from selfrepair.model.own_forward import own_forward, require_own_logits, require_own_stream
from selfrepair.model.places import place_of
from selfrepair.model.ports import Port
from selfrepair.model.proofs import tolerance
from selfrepair.progress import Advance
from selfrepair.run.planning.batch_size import real_tokens, tokens_of
from selfrepair.run.planning.job import Job
from selfrepair.run.storage.unit_file import Arrays
from selfrepair.run.unit.exactness import largest_error, ledger_rounding

STAGE = "survey"


def survey_unit(job: Job, number: int, advance: Advance) -> Arrays:
    """Runs a unit's windows clean.

    Returns:
        `direct_effects`, float32 [layer, head, token], of scored tokens (NaN for heads that a layer lacks);
        `loss`, [nats, tokens], in two phases of the exact part; `readout_error`, the largest difference between the
        model's own centred logits and ours, and the largest ratio to what rounding may leave; `means/L`, per layer
        float64 sums of head outputs [head, head_dim] over positions that count, and `mean_count`; for operators
        that ask for them `position_means/L` [position, head, head_dim] with `position_counts` [position].
    """
    tally = _Tally(job)
    with job.model.running():
        for windows in job.batches(number):
            tokens = tokens_of(job.windows, windows, job.model)
            tally.add(windows, clean_run(job.model, tokens, ports=ports_of(job.interventions)))
            advance(len(windows))
    return tally.arrays()


def port_name(port: Port) -> str:
    """Name of a port in a unit's arrays: the layer for heads, else `layer/kind`."""
    return str(port.layer) if port.kind == "heads" else f"{port.layer}/{port.kind}"


class _Tally:
    def __init__(self, job: Job) -> None:
        self.job = job
        heads = [Port(layer, "heads") for layer in range(job.model.anatomy.layers)]
        layouts = {port: place_of(job.model, port) for port in dict.fromkeys((*heads, *ports_of(job.interventions)))}
        positions = job.windows.length
        self.sums = {
            port: torch.zeros(positions, layout.entries, layout.size, dtype=torch.float64)
            for port, layout in layouts.items()
        }
        self.counts = torch.zeros(positions, dtype=torch.float64)
        self.effects: list[np.ndarray] = []
        self.nats, self.tokens, self.readout = 0.0, 0, np.zeros(2)
        self.constants = job.model.anatomy.unembedding.constants(job.model.anatomy.final_norm)

    def add(self, windows: np.ndarray, clean: CleanRun) -> None:
        scored = self.job.scored[windows]
        self.effects.append(self._effects(clean, scored))
        real = real_tokens(self.job.windows, windows, self.job.model)
        self.counts += real.sum(0).cpu()
        for port, total in self.sums.items():
            outputs = clean.outputs_at(port)
            total += (outputs.double() * real[..., None, None].to(outputs.device)).sum(0).cpu()
        compared = self._compared(windows)
        if not compared.any():
            require_own_forward(self.job.model, clean, real)
            return
        self._compare_with_own_forward(clean, np.flatnonzero(compared), real, scored)
        self.tokens += int(scored[compared].sum())

    def _compared(self, windows: np.ndarray) -> np.ndarray:
        """Windows whose clean run is compared with the model's own forward, logits included, bool [window]: those that
        are measured exactly; of a batch without any, one."""
        return np.asarray(self.job.counted[windows].any(1))

    def _effects(self, clean: CleanRun, scored: np.ndarray) -> np.ndarray:
        kept = np.full((*self.job.shape, int(scored.sum())), np.nan, np.float32)
        if not self.job.of_heads:
            effects = direct_effects(clean, self.job.interventions).cpu().numpy().astype(np.float32)
            for intervention, effect in zip(self.job.interventions, effects, strict=True):
                kept[self.job.cells[intervention]] = effect[scored]
            return kept
        for layer, block in enumerate(self.job.model.anatomy.blocks):
            kept[layer, : block.heads] = clean.direct_effects(layer).cpu().numpy().astype(np.float32)[scored].T
        return kept

    def _compare_with_own_forward(
        self, clean: CleanRun, compared: np.ndarray, real: Tensor, of_batch: np.ndarray
    ) -> None:
        """The model's own streams and loss, window by window: whole logits are large. Constants are added only after
        the comparison; proofs at load hold them to the model's own logits."""
        model, streams, allowed = self.job.model, {}, tolerance(self.job.model.dtype)
        readout, left = model.anatomy.unembedding, ledger_rounding(clean)
        scored = torch.from_numpy(of_batch).to(clean.sigma.device)
        for window in compared.tolist():
            forward = own_forward(model, clean.tokens[window : window + 1])
            streams[window], logits = forward.stream[0], forward.logits[0, :-1]
            target = clean.tokens[window, 1:, None]
            own = readout.centred(logits).gather(-1, target).squeeze(-1)
            error = (own - clean.scaled_logit[window])[scored[window]]
            errors = largest_error(error), largest_error(error / left[window][scored[window]])
            self.readout = np.maximum(self.readout, errors)
            capped = readout.capped(logits + self.constants)
            nats = capped.logsumexp(-1) - capped.gather(-1, target).squeeze(-1)
            self.nats += float(nats[scored[window]].sum())
            self._require_finite()
            require_own_logits(model, forward.stream, forward, real[window : window + 1], allowed)
        require_own_stream(model, clean.tokens, clean.final, streams, real, allowed)

    def _require_finite(self) -> None:
        if not np.isfinite(self.nats):
            raise SelfRepairError(
                "The model's own logits on this text are not finite.",
                "Load it at a higher precision (--dtype float64), or check its weights.",
            )

    def arrays(self) -> Arrays:
        first = self.job.plan["text"]["first_position"]
        arrays = {
            "direct_effects": np.concatenate(self.effects, axis=-1),
            "loss": np.array([self.nats, self.tokens]),
            "readout_error": self.readout,
            "mean_count": self.counts[first:].sum()[None].numpy(),
            **{f"means/{port_name(port)}": total[first:].sum(0).numpy() for port, total in self.sums.items()},
        }
        if POSITION_MEANS in self.job.operator.needs:
            arrays["position_counts"] = self.counts.numpy()
            arrays |= {f"position_means/{port_name(port)}": total.numpy() for port, total in self.sums.items()}
        return arrays
