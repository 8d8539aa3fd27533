"""The missing list of audits where the truth is known: members deleted from planted circuits, and lines of nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from selfrepair.bench.planted.benchmark import VARIANTS, Variant
from selfrepair.bench.planted.circuits import REPAIRERS, build, draw_circuit
from selfrepair.bench.planted.planted_prompts import planted_prompts
from selfrepair.engine.replay import ReplayEngine
from selfrepair.model.load import load
from selfrepair.progress import Advance, ignore
from selfrepair.questions.circuit.audit import audit
from selfrepair.questions.circuit.missing import confirmed, selected
from selfrepair.questions.measuring.sampling import Sampling
from selfrepair.questions.question import Question
from selfrepair.questions.question_settings import AuditSettings
from selfrepair.statistics.estimates import Array

AUDITED = VARIANTS[:2]
PROMPTS, CONTROLS, LEAST_SHARE, RATE = 64, 12, 0.005, 0.05
LEFT_OUT = (5, 0, 2, 3, 1, 4)  # members deleted, by seed
NULL_SEEDS, GROUPS, SIZE, COMPONENTS, LARGEST = 200, 16, 4, 120, 3
WAYS = (
    "selected on one half of the groups, confirmed on the other",
    "selected and tested on the same half",
    f"the {LARGEST} largest, tested on the half where they were chosen",
)


@dataclass(frozen=True, eq=False)
class MissingScores:
    """What came of it.

    Attributes:
        audits: one row per variant and seed: `left_out`, `found` and `right`, numbers of components, and the verdict.
        null: one row per way of testing: share of `seeds` draws without any repair in which something is discovered.
    """

    audits: pd.DataFrame
    null: pd.DataFrame

    def summary(self) -> pd.DataFrame:
        """Precision and recall over all audits of a variant: NaN where nothing was found, or left out."""
        sums = self.audits.groupby("variant", sort=False)[["left_out", "found", "right"]].sum().reset_index()
        with np.errstate(invalid="ignore", divide="ignore"):
            sums["precision"] = sums["right"].to_numpy(float) / sums["found"].to_numpy(float)
            sums["recall"] = sums["right"].to_numpy(float) / sums["left_out"].to_numpy(float)
        return sums


def missing_benchmark(
    seeds: int, variants: Sequence[Variant] = AUDITED, null_seeds: int = NULL_SEEDS, advance: Advance = ignore
) -> MissingScores:
    """Audits circuits with members deleted, and tests lines of components that do not repair.

    Args:
        seeds: circuits for each variant; `LEFT_OUT` members are deleted, by turns.
        variants: which models.
        null_seeds: draws of lines without any repair.
        advance: told of models as they are done.
    """
    rows = []
    for variant in variants:
        for seed in range(seeds):
            rows.append({"variant": variant.name, "seed": seed} | _audited(variant, seed))
            advance(1)
    columns = ["variant", "seed", "left_out", "found", "right", "verdict"]
    return MissingScores(pd.DataFrame(rows, columns=columns), null_rates(null_seeds))


def _audited(variant: Variant, seed: int) -> dict[str, object]:
    circuit = draw_circuit(seed)
    model = load(build(circuit, variant.architecture, variant.live_norm).module)
    repairers = [site for site, part in circuit.parts.items() if part.role in REPAIRERS]
    order = np.random.default_rng((seed, 2)).permutation(len(repairers))
    out = {repairers[place] for place in order[: LEFT_OUT[seed % len(LEFT_OUT)]]}
    settings = AuditSettings(
        ablation="zero",
        least_share=LEAST_SHARE,
        operators=(),
        controls=CONTROLS,
        seed=seed,
        engine=ReplayEngine(fold=8),
    )
    question = Question(model, planted_prompts(PROMPTS, seed)[0], settings)
    inside = tuple(site for site in repairers if site not in out)
    found = audit(question, {"primaries": circuit.primaries, "repairers": inside})
    named = set(found.missing["component"])
    right = len(named & set(map(str, out)))
    return {"left_out": len(out), "found": len(named), "right": right, "verdict": found.verdict.word}


def null_lines(rng: np.random.Generator) -> Array:
    """Lines without any repair, alike within groups, [prompt, component]."""
    units = np.repeat(np.arange(GROUPS), SIZE)
    groups = rng.normal(size=(GROUPS, COMPONENTS))[units]
    return np.asarray(groups + 0.5 * rng.normal(size=(GROUPS * SIZE, COMPONENTS)))


def null_rates(seeds: int) -> pd.DataFrame:
    """How often something is discovered where nothing repairs, with an audit's halves and without them.

    Args:
        seeds: draws of lines.

    Returns:
        One row per way: `way`, `rate`, `seeds`.
    """
    first, second = np.split(np.arange(GROUPS * SIZE), 2)
    counts = dict.fromkeys(WAYS, 0)
    for seed in range(seeds):
        lines = null_lines(np.random.default_rng((seed, 3)))
        lost = np.full(len(lines), 1e-9)
        chosen = selected(lines[first], lost[first], _sampling(first), 1, RATE, 0.0)
        largest = np.argsort(-lines[first].mean(0))[:LARGEST]
        ways = ((second, np.flatnonzero(chosen)), (first, np.flatnonzero(chosen)), (first, largest))
        for way, (prompts, some) in zip(WAYS, ways, strict=True):
            counts[way] += bool(confirmed(lines[prompts][:, some], _sampling(prompts), 1, RATE).any())
    rows = [{"way": way, "rate": count / seeds, "seeds": seeds} for way, count in counts.items()] if seeds else []
    return pd.DataFrame(rows, columns=["way", "rate", "seeds"])


def _sampling(prompts: np.ndarray) -> Sampling:
    units = np.unique(prompts // SIZE, return_inverse=True)[1]
    return Sampling(units, np.ones(len(prompts)), "groups")
