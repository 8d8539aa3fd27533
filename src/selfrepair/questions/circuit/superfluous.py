"""Members of a circuit that seem to do nothing: alone, where the rest of the circuit is gone, where their role is."""

from __future__ import annotations

import numpy as np
import pandas as pd

from selfrepair.ablation.sites import Site
from selfrepair.questions.circuit.circuit_runs import CIRCUIT, CircuitRuns, role_name
from selfrepair.questions.measuring.prompt_effects import Array, PromptEffects
from selfrepair.questions.measuring.sampling import Sampling

_WITHIN = 2.0  # standard errors


def members(effects: PromptEffects, runs: CircuitRuns, sampling: Sampling) -> pd.DataFrame:
    """One row per member: its effects, and whether it is superfluous: all of them within two standard errors of zero.

    Columns: `component`, `roles`, `direct_effect`, `alone` (the readout's change if it alone is ablated), `given_rest`
    (if the rest of the circuit is ablated already), `given_role` (the rest of its role; NaN without one), each with
    `_low` and `_high`, and `superfluous`.
    """
    rows = []
    for site in runs.members:
        row: dict[str, object] = {"component": str(site), "roles": ", ".join(_roles(runs, site))}
        quiet = []
        for name, values in _effects(effects, runs, site).items():
            mean = sampling.mean(values)
            row |= {name: float(mean.value), f"{name}_low": float(mean.low), f"{name}_high": float(mean.high)}
            if name != "direct_effect":
                quiet.append(abs(float(mean.value)) <= _WITHIN * float(np.nan_to_num(mean.standard_error)))
        rows.append(row | {"superfluous": bool(quiet) and all(quiet)})
    return pd.DataFrame(rows)


def _roles(runs: CircuitRuns, site: Site) -> list[str]:
    return [role for role, sites in runs.roles.items() if site in sites]


def _effects(effects: PromptEffects, runs: CircuitRuns, site: Site) -> dict[str, Array]:
    """The member's effects, [prompt] each."""

    def of(name: str) -> Array:
        change: Array = effects.total_effect[effects.row(name)]
        return change

    several = len(runs.members) > 1
    alone = str(site) if several else CIRCUIT
    found = {"direct_effect": effects.lost[effects.row(alone)], "alone": of(alone)}
    if several:
        found["given_rest"] = of(CIRCUIT) - of(f"{CIRCUIT} - {site}")
    for role, sites in runs.several_roles().items():
        if site in sites and "given_role" not in found:
            found["given_role"] = of(role_name(role)) - of(f"{role_name(role)} - {site}")
    return found
