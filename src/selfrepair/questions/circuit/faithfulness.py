"""How much a circuit is needed, and how far it is enough.

    necessity    N = (m0 - m(C)) / (m0 - m_all)
    faithfulness F = (m(not C) - m_all) / (m0 - m_all)

with m0 the clean value of the readout, m(C) its value with the circuit ablated, m(not C) with every other head ablated
(MLPs live), and m_all with every head ablated. Both are 1 for the set of all heads. F above 1 means that the circuit
does better without the rest of the model: the rest works against it, and `against` names who.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from selfrepair.questions.circuit.circuit_runs import CircuitRuns
from selfrepair.questions.measuring.components import Components, lies_in
from selfrepair.questions.measuring.prompt_effects import PromptEffects
from selfrepair.questions.measuring.sampling import Sampling
from selfrepair.statistics.estimates import Estimate


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """Of one circuit.

    Attributes:
        necessity: N.
        faithfulness: F.
        span: `m0 - m_all`, what heads contribute at all, in logits.
        against: heads outside the circuit that work against the answer on the intact model, most first:
            `component`, `clean_direct_effect`, `low`, `high`.
    """

    necessity: Estimate
    faithfulness: Estimate
    span: Estimate
    against: pd.DataFrame


def faithfulness(effects: PromptEffects, runs: CircuitRuns, sampling: Sampling) -> Faithfulness:
    """Necessity and faithfulness of the circuit, from runs that are in `effects`."""
    change = {name: effects.total_effect[effects.row(name)] for name in _names(runs)}
    circuit, kept, nothing = (change[name] for name in _names(runs))
    return Faithfulness(
        necessity=sampling.ratio(-circuit, -nothing),
        faithfulness=sampling.ratio(kept - nothing, -nothing),
        span=sampling.mean(-nothing),
        against=_against(effects, runs, sampling),
    )


def kept_share(effects: PromptEffects, kept: str, nothing: str, sampling: Sampling) -> Estimate:
    """F of another set whose complement was ablated."""
    rest = effects.total_effect[effects.row(nothing)]
    return sampling.ratio(effects.total_effect[effects.row(kept)] - rest, -rest)


def _names(runs: CircuitRuns) -> tuple[str, str, str]:
    return runs.circuit.name, runs.kept().name, runs.nothing_kept.name


def _against(effects: PromptEffects, runs: CircuitRuns, sampling: Sampling) -> pd.DataFrame:
    """Heads outside the circuit whose clean direct effect is surely negative."""
    components: Components = runs.components
    outside = [site for site in runs.heads if not lies_in(site, runs.members)]
    direct = components.direct_effects(effects)[:, [components.index[site] for site in outside]]
    mean = sampling.mean(direct.T)
    table = pd.DataFrame(
        {
            "component": [str(site) for site in outside],
            "clean_direct_effect": mean.value,
            "low": mean.low,
            "high": mean.high,
        }
    )
    sure = table["clean_direct_effect"] < np.where(np.isnan(table["high"]), 0, np.minimum(table["high"], 0))
    negative = table[sure & ~(table["high"] >= 0)]
    return negative.sort_values("clean_direct_effect", ignore_index=True)
