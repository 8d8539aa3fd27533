"""Prompts that can go through the model together: of one length, so that nothing is padded."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.names import resolve
from selfrepair.ablation.sites import Site
from selfrepair.effects.bent_readouts import BentReadout
from selfrepair.effects.readouts import Reading, Readout
from selfrepair.engine.clean import CleanRun
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port
from selfrepair.model.taps import keeping, on_input, removing
from selfrepair.prompts.prompts import Prompts
from selfrepair.questions.measuring.kept_forwards import clean_of
from selfrepair.questions.measuring.metrics import metric_named

LOGIT_DIFFERENCE = "logit-diff"
MOST_TOKENS = 2048  # of a batch: more gains nothing on a processor


@dataclass(frozen=True)
class Batch:
    """Some prompts of one length, and the interventions with their positions in these prompts.

    Attributes:
        prompts: which, int [prompt].
        tokens: [prompt, position].
        twins: tokens of the corrupt twins, [prompt, position]; None without them.
        readout: what is measured, at one position of each.
        interventions: in the order given, named positions resolved.
    """

    prompts: np.ndarray
    tokens: Tensor
    twins: Tensor | None
    readout: Readout | BentReadout
    interventions: tuple[Intervention, ...]

    def clean(self, model: LanguageModel, ports: Collection[Port] = ()) -> CleanRun:
        """Its clean run, outputs at some ports included. Call under `model.running()`."""
        return clean_of(model, self.tokens, self.reading(model), ports)

    def reading(self, model: LanguageModel) -> Reading:
        """What is read of it; of a bent readout along the gradient, for which the clean stream has to be known."""
        windows = self.prompts.tolist()
        if not isinstance(self.readout, BentReadout):
            return self.readout.reading(model.anatomy, self.tokens, windows)
        seen: dict[str, Tensor] = {}
        with removing(on_input(model.anatomy.final_norm_module, keeping(seen, "final", (*self.tokens.shape, -1)))):
            model.run_trunk(self.tokens)
        return self.readout.reading(model.anatomy, seen["final"], windows)


def batches(
    model: LanguageModel, prompts: Prompts, interventions: Sequence[Intervention], metric: str = LOGIT_DIFFERENCE
) -> Iterator[Batch]:
    """All prompts in batches.

    Args:
        model: the model.
        prompts: the prompts.
        interventions: of every prompt; sites at named positions may lie elsewhere in each.
        metric: what is measured, a name in `choices.READOUTS`.

    Raises:
        SelfRepairError: an unknown metric, or prompts without what it needs.
    """
    readout = metric_named(metric).make(prompts)
    for length, chosen, resolved in _alike(prompts, interventions):
        size = max(1, MOST_TOKENS // length)
        for start in range(0, len(chosen), size):
            some = np.asarray(chosen[start : start + size])
            tokens = _on_device(prompts.tokens[some, :length], model)
            yield Batch(
                prompts=some,
                tokens=tokens,
                twins=None if prompts.corrupt is None else _on_device(prompts.corrupt[some, :length], model),
                readout=readout,
                interventions=resolved,
            )


def _alike(
    prompts: Prompts, interventions: Sequence[Intervention]
) -> list[tuple[int, list[int], tuple[Intervention, ...]]]:
    """Prompts of one length in which all sites lie at the same positions: length, which, interventions."""
    groups: dict[tuple[int, tuple[Intervention, ...]], list[int]] = {}
    for prompt, length in enumerate(prompts.lengths.tolist()):
        here = tuple(_resolved(intervention, prompts, prompt) for intervention in interventions)
        groups.setdefault((length, here), []).append(prompt)
    return [(length, chosen, resolved) for (length, resolved), chosen in groups.items()]


def _resolved(intervention: Intervention, prompts: Prompts, prompt: int) -> Intervention:
    """The intervention with positions in one prompt in place of names of spans."""
    if all(site.positions is None for site in intervention.sites):
        return intervention

    spans, position, length = prompts.spans[prompt], int(prompts.positions[prompt]), int(prompts.lengths[prompt])

    def here(site: Site) -> Site:
        return resolve(site, spans, position, length)

    return Intervention(
        tuple(map(here, intervention.replaced)), tuple(map(here, intervention.frozen)), intervention.name
    )


def _on_device(tokens: np.ndarray, model: LanguageModel) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(tokens, np.int64)).to(model.device)
