"""Which components cover because they read what is missing themselves, and which because others do.

    direct(A -> B)   = u . (o_B(x_B + change of A's writes) - o_B(x_B)) / sigma
    mediated(A -> B) = line(B) - direct(A -> B)

x_B is the clean stream that B reads, norms are live. Direct edges from several senders at once are not the sum of those
from each: components are not linear. A component that acts through later ones has a line near zero; how much of its
whole response is direct is told by `<change of write, direct change of write> / |change of write|^2`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from selfrepair.ablation.interventions import Intervention, ports_of
from selfrepair.ablation.operators import Operator
from selfrepair.engine.ablated_outputs import ablated_outputs
from selfrepair.engine.accounts import require_sites
from selfrepair.engine.clean import CleanRun
from selfrepair.engine.direct_outputs import direct_outputs, rest_frozen
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port
from selfrepair.prompts.prompts import Prompts
from selfrepair.questions.measuring.batches import batches
from selfrepair.questions.measuring.components import Components
from selfrepair.questions.measuring.inputs import PromptInputs, operator_for, replacement_of
from selfrepair.questions.measuring.prompt_effects import Array
from selfrepair.questions.measuring.sampling import Sampling

Outputs = Mapping[Port, Tensor]
"""By port, [window, position, entry, size]."""


@dataclass(frozen=True, eq=False)
class DirectEdges:
    """Lines of C components on P prompts, and the part of each that comes straight from the senders, in logits.

    Attributes:
        prompts: the prompts.
        senders: the ablated run.
        components: all heads, mixers and MLPs, the order of the last axis.
        operator: what replaced sites got.
        lines: changes in direct effects, [P, C]; exactly 0 for the senders and what lies before them.
        direct: what they would be if nothing but the senders' own writes had changed, [P, C]; 0 in the same places.
        responses: `|change of write|^2 / sigma^2` at the answer's position, [P, C]; heads' writes before any norm
            behind attention.
        direct_responses: inner products of the change of write with the direct one, over `sigma^2`, [P, C].
    """

    prompts: Prompts
    senders: Intervention
    components: Components
    operator: str
    lines: Array
    direct: Array
    responses: Array
    direct_responses: Array

    @property
    def mediated(self) -> Array:
        """What came by way of other components, [P, C]."""
        return np.asarray(self.lines - self.direct)

    def table(self) -> pd.DataFrame:
        """One row per component downstream, those with the largest lines first: means over prompts with intervals; the
        root mean square of responses, and the share of them that is direct."""
        receivers = self.components.downstream(self.senders)
        columns = [self.components.index[site] for site in receivers]
        sampling = Sampling.of(self.prompts)
        table: dict[str, object] = {"component": [str(site) for site in receivers]}
        for name, values in (("line", self.lines), ("direct", self.direct), ("mediated", self.mediated)):
            mean = sampling.mean(values[:, columns].T)
            table |= {name: mean.value, f"{name}_low": mean.low, f"{name}_high": mean.high}
        responses, direct = (values[:, columns].T for values in (self.responses, self.direct_responses))
        table |= {"response": np.sqrt(sampling.mean(responses).value)}
        table |= {"direct_response": sampling.ratio(direct, responses).value}
        return pd.DataFrame(table).sort_values("line", key=np.abs, ascending=False, ignore_index=True)


def direct_edges(
    model: LanguageModel,
    prompts: Prompts,
    senders: Intervention,
    ablation: str | Operator | None = None,
    *,
    donors: int = 1,
    seed: int = 0,
) -> DirectEdges:
    """Direct edges from some components, taken together, to every one: two forwards per batch and draw.

    Args:
        model: the model.
        prompts: with their answers.
        senders: what is replaced.
        ablation: what replaced sites get; see `prompt_effects`.
        donors: other prompts that each one draws on under `resample`; edges are averaged over them.
        seed: of the donors' draw.

    Raises:
        SelfRepairError: senders that the model does not have, that are neurons, or with something frozen.
    """
    operator, components = operator_for(ablation, prompts, donors, model, seed), Components.of(model.anatomy)
    ports = components.ports
    receivers = [components.index[site] for site in components.downstream(senders)]
    shape, means = (len(prompts), len(components.sites)), dict[Port, Tensor]()
    edges = DirectEdges(prompts, senders, components, operator.name, *(np.zeros(shape) for _ in range(4)))
    with model.running():
        for batch in batches(model, prompts, [senders]):
            (base,) = batch.interventions  # with positions in the place of names
            require_sites(model, batch.tokens.shape[1], [base])
            rest_frozen(model.anatomy, base)  # refuses
            clean = batch.clean(model, {*ports, *ports_of([base])})
            inputs = PromptInputs(model, prompts, batch, ports_of([base]), means, seed)
            places = np.ix_(batch.prompts, np.array(receivers, np.int64))
            for draw in range(operator.draws):
                replacement = replacement_of(operator, clean, inputs, draw)
                runs = [run(model, clean, base, replacement, ports) for run in (ablated_outputs, direct_outputs)]
                for name, values in _changes(model, clean, ports, *runs).items():
                    getattr(edges, name)[places] += values[:, receivers] / operator.draws
    return edges


def _changes(
    model: LanguageModel, clean: CleanRun, ports: Sequence[Port], ablated: Outputs, alone: Outputs
) -> dict[str, Array]:
    """All components' values of `DirectEdges` by name, [prompt, component] each.

    Args:
        model: the model.
        clean: the clean run.
        ports: in the order of the components.
        ablated: outputs of the ablated run.
        alone: outputs where nothing but the senders' writes has changed.
    """
    found: dict[str, list[Tensor]] = {"lines": [], "direct": [], "responses": [], "direct_responses": []}
    for port in ports:
        changes = [outputs[port] - clean.outputs_at(port) for outputs in (ablated, alone)]
        whole, direct = (_writes(model, clean, port, change) for change in changes)
        for name, change in zip(("lines", "direct"), changes, strict=True):
            found[name].append(clean.direct_effects_at(port, change)[:, 0])
        found["responses"].append((whole * whole).sum(-1))
        found["direct_responses"].append((whole * direct).sum(-1))
    return {name: torch.cat(values, -1).double().cpu().numpy() for name, values in found.items()}


def _writes(model: LanguageModel, clean: CleanRun, port: Port, outputs: Tensor) -> Tensor:
    """What outputs at a port write at the answer's position, over sigma, [prompt, entry, width]."""
    block, read = model.anatomy.blocks[port.layer], clean.reading.at(outputs, 2)[:, 0]
    if port.kind == "heads":
        read = torch.einsum("phe,hed->phd", read, block.output_weight)
    return read * block.multiplier(port) / clean.sigma[:, :, None]
