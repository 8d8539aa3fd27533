"""The clean pass over the whole corpus: every head's direct effects, corpus means, and the model's own loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from selfrepair.engine.clean import CleanRun, clean_run
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.progress import progress
from selfrepair.run.batches import batches, tokens_of
from selfrepair.text import Windows


@dataclass(frozen=True)
class Survey:
    """What one clean pass tells.

    Attributes:
        direct_effects: float32 [layer, head, token], clean, of scored tokens in order of window and position;
            NaN for heads that a layer does not have.
        means: per layer, mean head outputs over tokens [head, head_dim], float64; positions before `first`
            and padding are left out.
        position_means: per layer, the same for each position [position, head, head_dim].
        loss: the model's loss on the scored tokens, nats per token.
        readout_error: largest difference between the model's own centred logits and ours.
    """

    direct_effects: np.ndarray
    means: tuple[Tensor, ...]
    position_means: tuple[Tensor, ...]
    loss: float
    readout_error: float


def survey(model: LanguageModel, windows: Windows, batch: int, first: int, shown: bool = True) -> Survey:
    """Runs all windows clean, once.

    Args:
        model: the model.
        windows: the corpus.
        batch: windows at a time.
        first: first position that statistics count.
        shown: whether to show progress.
    """
    tally = _Tally(model, windows, first)
    with progress("Survey (clean pass)", len(windows), shown) as advance, model.running():
        for indices in batches(windows, batch):
            tally.add(indices, clean_run(model, tokens_of(windows, indices, model)))
            advance(len(indices))
    return tally.survey()


class _Tally:
    def __init__(self, model: LanguageModel, windows: Windows, first: int) -> None:
        self.model, self.windows, self.first = model, windows, first
        self.scored = windows.scored(first)
        blocks = model.anatomy.blocks
        self.sums = [torch.zeros(windows.length, b.heads, b.head_dim, dtype=torch.float64) for b in blocks]
        self.counts = torch.zeros(windows.length, dtype=torch.float64)
        self.effects: list[np.ndarray] = []
        self.nats = self.readout_error = 0.0

    def add(self, indices: np.ndarray, clean: CleanRun) -> None:
        scored = self.scored[indices]
        self.effects.append(self._effects(clean, scored))
        real = torch.from_numpy(np.arange(self.windows.length) < self.windows.lengths[indices, None])
        self.counts += real.sum(0)
        for total, outputs in zip(self.sums, clean.head_outputs, strict=True):
            total += (outputs.double() * real[..., None, None].to(outputs.device)).sum(0).cpu()
        self._compare_with_own_logits(clean, torch.from_numpy(scored).to(clean.logit.device))

    def _effects(self, clean: CleanRun, scored: np.ndarray) -> np.ndarray:
        anatomy = self.model.anatomy
        kept = np.full((anatomy.layers, anatomy.heads, int(scored.sum())), np.nan, np.float32)
        for layer, block in enumerate(anatomy.blocks):
            kept[layer, : block.heads] = clean.direct_effects(layer).float().cpu().numpy()[scored].T
        return kept

    def _compare_with_own_logits(self, clean: CleanRun, scored: Tensor) -> None:
        """The model's own loss, window by window: whole logits are large."""
        for window in range(len(clean.tokens)):
            logits = self.model.logits(clean.tokens[window : window + 1])[0, :-1]
            own = logits.gather(-1, clean.tokens[window, 1:, None]).squeeze(-1)
            error = (own - logits.mean(-1) - clean.logit[window]).abs()[scored[window]]
            self.nats += float((logits.logsumexp(-1) - own)[scored[window]].sum())
            self.readout_error = max(self.readout_error, float(error.max()) if len(error) else 0.0)

    def survey(self) -> Survey:
        effects = np.concatenate(self.effects, axis=-1)
        if not np.isfinite(self.nats):
            raise SelfRepairError(
                "The model's own logits on this text are not finite.",
                "Load it at a higher precision (--dtype float32), or check its weights.",
            )
        counts = self.counts.clamp_min(1)[:, None, None]
        counted = self.counts[self.first :].sum().clamp_min(1)
        return Survey(
            direct_effects=effects,
            means=tuple(total[self.first :].sum(0) / counted for total in self.sums),
            position_means=tuple(total / counts for total in self.sums),
            loss=self.nats / max(1, effects.shape[-1]),
            readout_error=self.readout_error,
        )
