"""The circuit with what it misses added, one component after the other: is the repair covered then?"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.sites import Site
from selfrepair.questions.circuit.circuit_runs import CircuitRuns
from selfrepair.questions.circuit.faithfulness import kept_share
from selfrepair.questions.measuring.prompt_effects import PromptEffects
from selfrepair.questions.measuring.sampling import Sampling

ENOUGH = 0.10  # uncovered repair, as a share of what the set wrote, below which no more is added


def completion_runs(runs: CircuitRuns, missing: Sequence[Site]) -> list[Intervention]:
    """The circuit with the first 1, 2 ... of what it misses ablated, and every other head ablated."""
    steps = [tuple(missing[: count + 1]) for count in range(len(missing))]
    return [run for more in steps for run in (runs.with_more(more), runs.kept(more))]


def completion_curve(
    effects: PromptEffects, runs: CircuitRuns, missing: Sequence[Site], sampling: Sampling
) -> pd.DataFrame:
    """One row per step, from the circuit as it is: `added`, `repaired_share` of the set so far (what still comes back
    when all of it is ablated), `necessity`, `faithfulness`, each with `_low` and `_high`, and `enough`: whether the
    repaired share is below 10%."""
    nothing = effects.total_effect[effects.row(runs.nothing_kept.name)]
    rows = []
    for count in range(len(missing) + 1):
        more = tuple(missing[:count])
        ablated = effects.row((runs.with_more(more) if more else runs.circuit).name)
        share = sampling.ratio(effects.self_repair[ablated], effects.lost[ablated])
        need = sampling.ratio(-effects.total_effect[ablated], -nothing)
        enough = kept_share(effects, runs.kept(more).name, runs.nothing_kept.name, sampling)
        row: dict[str, object] = {"added": str(more[-1]) if more else ""}
        for name, one in (("repaired_share", share), ("necessity", need), ("faithfulness", enough)):
            row |= {name: float(one.value), f"{name}_low": float(one.low), f"{name}_high": float(one.high)}
        rows.append(row | {"enough": float(share.value) < ENOUGH})
    return pd.DataFrame(rows)
