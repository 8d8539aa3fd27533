"""Every score on planted models, where the truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.operators import Zero
from selfrepair.bench.co_ablation import co_ablation
from selfrepair.bench.evidence import EVERY, SCORES, Evidence, labels_of_components
from selfrepair.bench.planted.circuits import BACKUPS, LABELS, REPAIRERS, PlantedCircuit, build, draw_circuit
from selfrepair.bench.planted.planted_prompts import planted_prompts
from selfrepair.bench.ranking import auc, average_precision, bootstrap_interval
from selfrepair.engine.replay import ReplayEngine
from selfrepair.model.load import load
from selfrepair.progress import Advance, ignore
from selfrepair.prompts.prompts import Prompts
from selfrepair.questions.measuring.components import Components
from selfrepair.questions.measuring.prompt_effects import prompt_effects
from selfrepair.statistics.estimates import Array

PROMPTS, NOISE = 20, 0.1
_REPLICATES = 2000
_DIGITS = 12  # of scores: what differs by rounding alone is a tie
_ROUNDING = 1e-9  # of what was lost: a line below it is none


@dataclass(frozen=True)
class Variant:
    """Which models are planted.

    Attributes:
        name: what tables call them.
        architecture: a name in `NETWORKS`.
        live_norm: whether the final norm divides by the stream's size.
    """

    name: str
    architecture: str
    live_norm: bool


VARIANTS = (
    Variant("GPT-2, fixed norms", "gpt2", False),
    Variant("GPT-2, live final norm", "gpt2", True),
    Variant("Llama, grouped queries, live final norm", "llama", True),
    Variant("OLMo 2, post-norms, live final norm", "olmo2", True),
)


@dataclass(frozen=True, eq=False)
class PlantedScores:
    """What came of it.

    Attributes:
        ranks: one row per variant, seed and score: AUC and average precision for backups and for all repairers.
        motifs: one row per variant and seed: share of right labels, among components that have a motif and among all
            others; largest error of a line against the truth table, at the clean norm's scale; the ledger's residual.
        roles: one row per variant, seed and role: means of the line, freeze test, effect growth and CoAx growth.
        candidates: how many there are in each model.
    """

    ranks: pd.DataFrame
    motifs: pd.DataFrame
    roles: pd.DataFrame
    candidates: int

    def summary(self) -> pd.DataFrame:
        """Means over seeds, with 95% percentile intervals: one row per variant and score."""
        rows = []
        for (variant, score), group in self.ranks.groupby(["variant", "score"], sort=False):
            row = {"variant": variant, "score": score}
            for name in ("auc_backups", "ap_backups", "auc_repairers", "ap_repairers"):
                row |= over_seeds(name, group[name].to_numpy())
            rows.append(row)
        return pd.DataFrame(rows)

    def labelled(self) -> pd.DataFrame:
        """Right labels of motifs, means over seeds with intervals: one row per variant."""
        rows = []
        for variant, group in self.motifs.groupby("variant", sort=False):
            row: dict[str, object] = {"variant": variant}
            for name in ("labels_right", "unmoved_right"):
                row |= over_seeds(name, group[name].to_numpy())
            rows.append(row | {name: group[name].max() for name in ("truth_error", "residual")})
        return pd.DataFrame(rows)


def over_seeds(name: str, values: Array) -> dict[str, float]:
    """A mean over seeds and its interval: `name`, `name_low`, `name_high`."""
    low, high = bootstrap_interval(lambda drawn: float(values[drawn].mean()), len(values), _REPLICATES)
    return {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}


def planted_benchmark(
    seeds: int = 12, variants: Sequence[Variant] = VARIANTS, prompts: int = PROMPTS, advance: Advance = ignore
) -> PlantedScores:
    """Scores on planted models.

    Args:
        seeds: how many circuits for each variant.
        variants: which models.
        prompts: for each circuit.
        advance: told of models as they are done.
    """
    ranks, motif_rows, roles, candidates = [], [], [], 0
    for variant in variants:
        for seed in range(seeds):
            case = Case.of(variant, seed, prompts)
            named = {"variant": variant.name, "seed": seed}
            ranks += [named | row for row in case.ranks()]
            motif_rows.append(named | case.motifs())
            roles += [named | row for row in case.by_role()]
            candidates = len(case.evidence.sites)
            advance(1)
    return PlantedScores(pd.DataFrame(ranks), pd.DataFrame(motif_rows), pd.DataFrame(roles), candidates)


@dataclass(frozen=True, eq=False)
class Case:
    """One planted model, measured with its primaries ablated.

    Attributes:
        circuit: the truth.
        prompts: on which.
        contents: of their sources, 0 for noise, [prompt].
        evidence: of all components that can respond.
        lost: what the primaries no longer write, [prompt].
        residual: what the ledgers leave over, in logits.
        live_norm: whether the final norm divides by the stream's size.
    """

    circuit: PlantedCircuit
    prompts: Prompts
    contents: Array
    evidence: Evidence
    lost: Array
    residual: float
    live_norm: bool

    @classmethod
    def of(cls, variant: Variant, seed: int, number: int = PROMPTS, noise: float = NOISE) -> Case:
        """A circuit, its network and what is measured on it."""
        circuit = draw_circuit(seed)
        model = load(build(circuit, variant.architecture, variant.live_norm).module)
        prompts, contents = planted_prompts(number, seed, noise)
        base, components = Intervention(circuit.primaries, name="primaries"), Components.of(model.anatomy)
        effects = prompt_effects(model, prompts, [base], Zero(), engine=ReplayEngine(fold=1))
        found = co_ablation(model, prompts, components.downstream(base), [base], Zero())
        evidence = Evidence.of(effects, components, found, 0)
        return cls(circuit, prompts, contents, evidence, effects.lost[0], effects.residual, variant.live_norm)

    @property
    def roles(self) -> np.ndarray:
        """Of the candidates, [candidate]."""
        return self.circuit.roles(self.evidence.sites)

    def ranks(self) -> list[dict[str, object]]:
        """One row per score."""
        backups, repairers = np.isin(self.roles, BACKUPS), np.isin(self.roles, REPAIRERS)
        rows: list[dict[str, object]] = []
        for score in SCORES:
            values = np.round(score.of(self.evidence, EVERY), _DIGITS)
            row: dict[str, object] = {"score": score.name}
            for name, positive in (("backups", backups), ("repairers", repairers)):
                row |= {f"auc_{name}": auc(positive, values), f"ap_{name}": average_precision(positive, values)}
            rows.append(row)
        return rows

    def motifs(self) -> dict[str, float]:
        """How many labels are right, and how far lines are from the truth table."""
        given = labels_of_components(self.evidence)
        wanted = np.array([LABELS.get(role, "") for role in self.roles])
        none = np.abs(self.evidence.lines.mean(0)) <= _ROUNDING * abs(self.lost.mean())
        right = np.where(wanted == "", none | (given == "unsure"), given == wanted)
        truth = self.circuit.lines(self.evidence.sites, self.contents)
        error = float(np.abs(self.evidence.lines * self._scale()[:, None] - truth).max())
        return {
            "labels_right": float(right[wanted != ""].mean()),
            "unmoved_right": float(right[wanted == ""].mean()),
            "truth_error": error,
            "residual": self.residual,
        }

    def _scale(self) -> Array:
        """What the final norm divides by on the clean run, from what the primaries lost, [prompt]; 1 for noise."""
        written = self.circuit.direct_effects(self.circuit.primaries, self.contents).sum(1)
        return np.asarray(np.divide(written, self.lost, out=np.ones(len(written)), where=self.contents > 0))

    def by_role(self) -> list[dict[str, object]]:
        """Means over the components of each role."""
        chosen = [score for score in SCORES if score.name in ("line", "freeze test", "effect growth", "CoAx growth")]
        values = {score.name: score.of(self.evidence, EVERY) for score in chosen}
        return [
            {"role": role, "number": int((self.roles == role).sum())}
            | {name: float(some[self.roles == role].mean()) for name, some in values.items()}
            for role in dict.fromkeys((*REPAIRERS, *sorted(set(self.roles.tolist()))))
            if (self.roles == role).any()
        ]
