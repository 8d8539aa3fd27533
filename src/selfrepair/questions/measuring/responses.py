"""How much each component's write changes in an ablated run, regardless of its effect on the answer.

A component that acts through later ones has a small line and a large response: candidates for freeze tests are chosen
by both, and controls are matched by it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from selfrepair.ablation.interventions import Intervention, ports_of
from selfrepair.ablation.operators import Operator
from selfrepair.engine.ablated_outputs import ablated_outputs
from selfrepair.engine.clean import CleanRun
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port
from selfrepair.prompts.prompts import Prompts
from selfrepair.questions.measuring.batches import LOGIT_DIFFERENCE, batches
from selfrepair.questions.measuring.components import Components
from selfrepair.questions.measuring.inputs import PromptInputs, operator_for
from selfrepair.questions.measuring.prompt_effects import Array


def response_sizes(
    model: LanguageModel,
    prompts: Prompts,
    intervention: Intervention,
    ablation: str | Operator | None = None,
    *,
    donors: int = 1,
    seed: int = 0,
    metric: str = LOGIT_DIFFERENCE,
) -> Array:
    """Root mean square over prompts of `|change of write| / sigma` at the answer's position, [component].

    Args:
        model: the model.
        prompts: the prompts.
        intervention: the ablated run.
        ablation: what replaced sites get; see `prompt_effects`.
        donors: under `resample`.
        seed: of the donors' draw.
        metric: what is measured of the prompts, which need what it needs.
    """
    components, operator = Components.of(model.anatomy), operator_for(ablation, prompts, donors, model, seed)
    ports = components.ports
    squares, count = np.zeros(len(components.sites)), 0
    means: dict[Port, Tensor] = {}
    with model.running():
        for batch in batches(model, prompts, [intervention], metric):
            touched = ports_of(batch.interventions)
            clean = batch.clean(model, {*ports, *touched})
            inputs = PromptInputs(model, prompts, batch, touched, means, seed)

            def replacement(port: Port, clean: CleanRun = clean, inputs: PromptInputs = inputs) -> Tensor:
                return operator.replacement(port, clean.outputs_at(port), inputs, 0).to(model.dtype)

            after = ablated_outputs(model, clean, batch.interventions[0], replacement, ports)
            sizes = [_squares(model, clean, port, after[port]) for port in ports]
            squares += torch.cat(sizes, -1).double().sum(0).cpu().numpy()
            count += len(batch.prompts)
    return np.sqrt(squares / max(count, 1))


def _squares(model: LanguageModel, clean: CleanRun, port: Port, after: Tensor) -> Tensor:
    """`|change of write|^2 / sigma^2` of each entry, [prompt, entry]."""
    block = model.anatomy.blocks[port.layer]
    change = clean.reading.at(after - clean.outputs_at(port), 2)[:, 0]
    if port.kind == "heads":
        change = torch.einsum("phe,hed->phd", change, block.output_weight)
    change = change * block.multiplier(port)
    return (change / clean.sigma[:, :, None]).square().sum(-1)
