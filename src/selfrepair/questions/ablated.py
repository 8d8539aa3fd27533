"""Any interventions on prompts, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.sites import Site
from selfrepair.questions.measuring.prompt_effects import PromptEffects
from selfrepair.questions.question import Question


@dataclass(frozen=True, eq=False)
class AblatedRuns:
    """Some ablated runs.

    Attributes:
        table: one row per run, see `summary`.
        effects: every prompt's ledger.
    """

    table: pd.DataFrame
    effects: PromptEffects


QUANTITIES = (
    *("total_effect", "lost", "self_repair", "all_heads", "all_mixers", "all_mlps"),
    *("post_norms", "norm", "curvature"),
)
_NAMED = 3


def ablated_runs(sets: Mapping[str, Sequence[Site]], frozen: Sequence[Site] = ()) -> list[Intervention]:
    """One run per set, with the same sites frozen in each.

    Args:
        sets: what is ablated together, by name.
        frozen: what is held at its clean output.
    """
    return [Intervention(tuple(sites), tuple(frozen), name) for name, sites in sets.items()]


def summary(question: Question, effects: PromptEffects) -> pd.DataFrame:
    """One row per run: `name`, each of `QUANTITIES` and `repaired_share` with `_low` and `_high`, and `repairers`."""
    sampling, components = question.sampling, question.components
    rows = []
    for row, run in enumerate(effects.interventions):
        found: dict[str, object] = {"name": run.name}
        for name in QUANTITIES:
            mean = sampling.mean(getattr(effects, name)[row])
            found |= {name: float(mean.value), f"{name}_low": float(mean.low), f"{name}_high": float(mean.high)}
        share = sampling.ratio(effects.self_repair[row], effects.lost[row])
        found |= {"repaired_share": float(share.value)}
        found |= {"repaired_share_low": float(share.low), "repaired_share_high": float(share.high)}
        sign = -1 if float(sampling.mean(effects.lost[row]).value) < 0 else 1
        lines = sampling.mean(sign * components.lines(effects, row).T).value
        order = np.argsort(-lines, kind="stable")[:_NAMED]
        found["repairers"] = ", ".join(str(components.sites[place]) for place in order if lines[place] > 0)
        rows.append(found)
    return pd.DataFrame(rows)
