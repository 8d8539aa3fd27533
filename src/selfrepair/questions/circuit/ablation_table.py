"""The same question under several ablations: does the conclusion depend on what replaced sites get?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from selfrepair.prompts.prompts import Prompts
from selfrepair.questions.circuit.circuit_runs import CIRCUIT, CircuitRuns
from selfrepair.questions.circuit.missing import jaccard
from selfrepair.questions.measuring.prompt_effects import PromptEffects
from selfrepair.questions.measuring.sampling import Sampling
from selfrepair.statistics.estimates import Estimate

PLACEBO = "placebo"  # the baseline: shown, and left out of what is compared
_MOST_COVERING = 3  # whose names are compared between operators


@dataclass(frozen=True, eq=False)
class OperatorTable:
    """One row per ablation.

    Attributes:
        table: `ablation`, `lost`, `total_effect`, `self_repair`, `repaired_share`, each with `_low` and `_high`, and
            `covered_by`, names of the three largest lines that repair.
        kendall: rank correlation of components' lines with those under the first ablation, by ablation.
        depends: whether the sign of the total effect or of the self-repair differs between two ablations, each surely.
    """

    table: pd.DataFrame
    kendall: Mapping[str, float]
    depends: bool

    @property
    def in_words(self) -> str:
        """The conclusion."""
        compared = [name for name in self.table["ablation"] if name != PLACEBO]
        names = ", ".join(compared)
        if len(compared) == 1:
            return f"Only {names} was tried: whether the conclusion depends on the ablation is not known."
        if self.depends:
            return f"The conclusion depends on the ablation: signs differ between {names}."
        return f"The signs of total effect and self-repair do not depend on the ablation ({names})."

    @property
    def agreement(self) -> float:
        """Smallest Jaccard index of the first ablation's coverers with another's."""
        compared = self.table[self.table["ablation"] != PLACEBO]
        sets = [names.split(", ") if names else [] for names in compared["covered_by"]]
        return min((jaccard(sets[0], other) for other in sets[1:]), default=1.0)


def possible(prompts: Prompts) -> tuple[str, ...]:
    """Ablations that these prompts allow."""
    lengths, numbers = np.unique(prompts.lengths, return_counts=True)
    resample = ("resample",) if len(lengths) and numbers.min() > 1 else ()
    corrupt = ("corrupt",) if prompts.corrupt is not None else ()
    return ("zero", "mean", *resample, *corrupt, PLACEBO)


def operator_table(by_operator: Mapping[str, PromptEffects], runs: CircuitRuns, sampling: Sampling) -> OperatorTable:
    """The circuit's row under each ablation.

    Args:
        by_operator: by name of the ablation, effects that hold the circuit's run.
        runs: of the circuit.
        sampling: of the prompts.
    """
    rows, lines = [], {}
    signs: list[tuple[int, int]] = []
    downstream = [runs.components.index[site] for site in runs.components.downstream(runs.circuit)]
    names = np.array([str(runs.components.sites[place]) for place in downstream])
    for name, effects in by_operator.items():
        row = effects.row(CIRCUIT)
        line = runs.components.lines(effects, row)[:, downstream]
        sign = -1 if float(sampling.mean(effects.lost[row]).value) < 0 else 1
        lines[name] = sampling.mean(sign * line.T).value
        total, repair = sampling.mean(effects.total_effect[row]), sampling.mean(effects.self_repair[row])
        if name != PLACEBO:
            signs.append((_sign(total), _sign(repair)))
        order = np.argsort(-lines[name])[:_MOST_COVERING]
        found: dict[str, object] = {"ablation": name}
        found |= _columns("lost", sampling.mean(effects.lost[row])) | _columns("total_effect", total)
        found |= _columns("self_repair", repair)
        found |= _columns("repaired_share", sampling.ratio(effects.self_repair[row], effects.lost[row]))
        found["covered_by"] = ", ".join(names[place] for place in order if lines[name][place] > 0)
        rows.append(found)
    first = next(iter(lines.values()))
    several = len(first) > 1
    kendall = {name: float(kendalltau(first, line).statistic) if several else np.nan for name, line in lines.items()}
    return OperatorTable(pd.DataFrame(rows), kendall, _differ(signs))


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: float(estimate.value), f"{name}_low": float(estimate.low), f"{name}_high": float(estimate.high)}


def _sign(estimate: Estimate) -> int:
    """-1 or 1 where the interval (or range) leaves out zero; else 0."""
    if float(estimate.low) > 0:
        return 1
    return -1 if float(estimate.high) < 0 else 0


def _differ(signs: Sequence[tuple[int, int]]) -> bool:
    return any({-1, 1} <= {pair[place] for pair in signs} for place in (0, 1))
