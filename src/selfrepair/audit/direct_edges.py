"""Which components cover because they read what is missing themselves, and which because others do.

    direct(A -> B)   = u . (o_B(x_B + change of A's writes) - o_B(x_B)) / sigma
    mediated(A -> B) = line(B) - direct(A -> B)

x_B is the clean stream that B reads, norms are live. Direct edges from several senders at once are not the sum of those
from each: components are not linear.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from selfrepair.ablation.interventions import Intervention, ports_of
from selfrepair.ablation.operators import Operator
from selfrepair.audit.batches import batches
from selfrepair.audit.components import Components
from selfrepair.audit.inputs import PromptInputs, operator_for, replacement_of
from selfrepair.audit.prompt_effects import Array
from selfrepair.audit.sampling import Sampling
from selfrepair.engine.ablated_outputs import ablated_outputs
from selfrepair.engine.accounts import require_sites
from selfrepair.engine.clean import CleanRun, clean_run
from selfrepair.engine.direct_edges import direct_outputs, rest_frozen
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port
from selfrepair.prompts.prompts import Prompts


@dataclass(frozen=True, eq=False)
class DirectEdges:
    """Lines of C components on P prompts, and the part of each that comes straight from the senders, in logits.

    Attributes:
        prompts: the prompts.
        senders: the ablated run.
        components: all heads and MLPs, the order of the last axis.
        operator: what replaced sites got.
        lines: changes in direct effects, [P, C]; exactly 0 for the senders and what lies before them.
        direct: what they would be if nothing but the senders' own writes had changed, [P, C]; 0 in the same places.
    """

    prompts: Prompts
    senders: Intervention
    components: Components
    operator: str
    lines: Array
    direct: Array

    @property
    def mediated(self) -> Array:
        """What came by way of other components, [P, C]."""
        return np.asarray(self.lines - self.direct)

    def table(self) -> pd.DataFrame:
        """One row per component downstream, those with the largest lines first: means over prompts with intervals."""
        receivers = self.components.downstream(self.senders)
        columns = [self.components.index[site] for site in receivers]
        sampling = Sampling.of(self.prompts)
        table: dict[str, object] = {"component": [str(site) for site in receivers]}
        for name, values in (("line", self.lines), ("direct", self.direct), ("mediated", self.mediated)):
            mean = sampling.mean(values[:, columns].T)
            table |= {name: mean.value, f"{name}_low": mean.low, f"{name}_high": mean.high}
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
    """Direct edges from some heads and MLPs, taken together, to every component: two forwards per batch and draw.

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
    operator, components = operator_for(ablation, prompts, donors), Components.of(model.anatomy)
    require_sites(model, int(prompts.lengths.min()), [senders])
    rest_frozen(model.anatomy, senders)  # refuses
    ports = [Port(layer, kind) for kind in ("heads", "mlp") for layer in range(model.anatomy.layers)]
    receivers = [components.index[site] for site in components.downstream(senders)]
    shape, means = (len(prompts), len(components.sites)), dict[Port, Tensor]()
    edges = DirectEdges(prompts, senders, components, operator.name, np.zeros(shape), np.zeros(shape))
    with model.running():
        for batch in batches(model, prompts, [senders]):
            (base,) = batch.interventions
            clean = clean_run(model, batch.tokens, batch.reading, ports)
            inputs = PromptInputs(model, prompts, batch, ports_of([base]), means, seed)
            places = np.ix_(batch.prompts, np.array(receivers, np.int64))
            for draw in range(operator.draws):
                replacement = replacement_of(operator, clean, inputs, draw)
                for run, values in ((ablated_outputs, edges.lines), (direct_outputs, edges.direct)):
                    outputs = run(model, clean, base, replacement, ports)
                    values[places] += _worth(clean, ports, outputs)[:, receivers] / operator.draws
    return edges


def _worth(clean: CleanRun, ports: list[Port], outputs: dict[Port, Tensor]) -> Array:
    """Changes in direct effects, [prompt, component]."""
    changes = [clean.direct_effects_at(port, outputs[port] - clean.outputs_at(port))[:, 0] for port in ports]
    return np.asarray(torch.cat(changes, -1).double().cpu().numpy())
