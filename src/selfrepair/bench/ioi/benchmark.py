"""The ledger's line and other scores on IOI prompts, judged by freeze tests: templates x ablations x primary sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from selfrepair.ablation.interventions import Intervention, together
from selfrepair.ablation.sites import Head, all_heads
from selfrepair.bench.co_ablation import co_ablation
from selfrepair.bench.evidence import EVERY, GROWTH, LINE, RATIO, SCORES, Evidence, Score, frozen, line
from selfrepair.bench.ioi.texts import TEMPLATES, ioi_prompts
from selfrepair.bench.ranking import auc, average_precision, bootstrap_interval, pearson
from selfrepair.engine.contract import Engine
from selfrepair.engine.replay import ReplayEngine
from selfrepair.model.language_model import LanguageModel
from selfrepair.progress import Advance, ignore
from selfrepair.prompts.prompts import Prompts
from selfrepair.questions.measuring.components import Components
from selfrepair.questions.measuring.prompt_effects import prompt_effects
from selfrepair.statistics.estimates import Array

_CLEAN = 0.9  # accuracy below which prompts are not what the model can do


@dataclass(frozen=True)
class IoiQuestion:
    """What is measured.

    Attributes:
        templates: how many templates.
        prompts: of each.
        ablations: operators, by name.
        primaries: sizes of primary sets: so many heads with the largest clean direct effects.
        positives: how many heads count as repairers: those with the largest freeze tests.
        replicates: of the bootstrap over prompts.
        seed: of prompts and bootstrap.
    """

    templates: int = 3
    prompts: int = 12
    ablations: tuple[str, ...] = ("zero", "corrupt")
    primaries: tuple[int, ...] = (2, 3, 5)
    positives: int = 4
    replicates: int = 1000
    seed: int = 1

    def work(self, model: LanguageModel) -> float:
        """Heads times prompts, over all settings."""
        heads = sum(model.anatomy.heads_by_layer)
        return float(heads * self.prompts * min(self.templates, len(TEMPLATES)) * len(self.ablations))


QUICK = IoiQuestion(templates=1, prompts=8, ablations=("zero",), primaries=(3,), replicates=500)


@dataclass(frozen=True, eq=False)
class IoiSetting:
    """One template, ablation and primary set.

    Attributes:
        template: which.
        ablation: the operator.
        primaries: the ablated heads.
        evidence: of all other heads.
        clean: logit difference by prompt.
        ablated: with the primaries gone.
        lost: what the primaries no longer write.
        heads: how many there are, primaries included.
    """

    template: str
    ablation: str
    primaries: tuple[Head, ...]
    evidence: Evidence
    clean: Array
    ablated: Array
    lost: Array
    heads: int

    def positives(self, number: int, drawn: np.ndarray | slice = EVERY) -> np.ndarray:
        """The heads with the largest freeze tests, bool [head]."""
        values = frozen(self.evidence, drawn)
        chosen = np.zeros(len(values), bool)
        chosen[np.argsort(-values, kind="stable")[:number]] = True
        return chosen

    def row(self, asked: IoiQuestion) -> dict[str, object]:
        """The setting's figures: ranking of each score, and how the line agrees with freeze tests."""
        values, positive, number = frozen(self.evidence), self.positives(asked.positives), len(self.clean)
        row: dict[str, object] = {
            "template": self.template,
            "ablation": self.ablation,
            "primaries": "+".join(map(str, self.primaries)),
            "accuracy": float((self.clean > 0).mean()),
            "clean": float(self.clean.mean()),
            "ablated": float(self.ablated.mean()),
            "lost": float(self.lost.mean()),
            "repairers": [str(site) for site, one in zip(self.evidence.sites, positive, strict=True) if one],
            "smallest_freeze": float(values[positive].min()),
            "pearson": self._agreement(EVERY),
        }
        row["pearson_low"], row["pearson_high"] = bootstrap_interval(
            self._agreement, number, asked.replicates, asked.seed
        )
        for score in SCORES:
            ranked = score.of(self.evidence, EVERY)
            row[f"auc {score.name}"] = auc(positive, ranked)
            row[f"ap {score.name}"] = average_precision(positive, ranked)
        for name, other in (("growth", GROWTH), ("ratio", RATIO)):
            row[f"beyond_{name}"] = self._beyond(other, asked.positives, EVERY)
            beyond = partial(self._beyond, other, asked.positives)
            row[f"beyond_{name}_low"], row[f"beyond_{name}_high"] = bootstrap_interval(
                beyond, number, asked.replicates, asked.seed
            )
        return row

    def _agreement(self, drawn: np.ndarray | slice) -> float:
        """Correlation of line and freeze test over heads."""
        return pearson(line(self.evidence, drawn), frozen(self.evidence, drawn))

    def _beyond(self, other: Score, number: int, drawn: np.ndarray | slice) -> float:
        """AUC of the line less that of another score, with the labels of the same prompts."""
        positive = self.positives(number, drawn)
        first, second = (score.of(self.evidence, drawn) for score in (LINE, other))
        return auc(positive, first) - auc(positive, second)


def ioi_benchmark(
    model: LanguageModel, asked: IoiQuestion, engine: Engine | None = None, advance: Advance = ignore
) -> list[IoiSetting]:
    """Measures all settings.

    Args:
        model: the model, with its tokenizer.
        asked: which settings.
        engine: computes the ledgers; replay by default.
        advance: told of heads times prompts as they are done.
    """
    settings = []
    for template in TEMPLATES[: asked.templates]:
        prompts = ioi_prompts(model.tokenizer, template, asked.prompts, asked.seed)
        for ablation in asked.ablations:
            sets = primary_sets(model, prompts, asked.primaries, engine)
            settings += measure_setting(model, prompts, template, ablation, sets, engine, advance)
    return settings


def primary_sets(
    model: LanguageModel, prompts: Prompts, sizes: Sequence[int], engine: Engine | None = None
) -> list[Intervention]:
    """Sets of the heads with the largest clean direct effects."""
    components = Components.of(model.anatomy)
    effects = prompt_effects(model, prompts, [], "zero", engine=engine or ReplayEngine(fold=4))
    heads = [site for site in components.sites if isinstance(site, Head)]
    means = components.direct_effects(effects).mean(0)[: len(heads)]
    largest = [heads[place] for place in np.argsort(-means, kind="stable")]
    return [together(f"{size} primaries", largest[:size]) for size in sizes]


def measure_setting(
    model: LanguageModel,
    prompts: Prompts,
    template: str,
    ablation: str,
    sets: Sequence[Intervention],
    engine: Engine | None = None,
    advance: Advance = ignore,
) -> list[IoiSetting]:
    """One template under one ablation, for some sets of heads."""
    components, heads = Components.of(model.anatomy), all_heads(model.anatomy)
    effects = prompt_effects(model, prompts, sets, ablation, engine=engine or ReplayEngine(fold=4))
    found = co_ablation(model, prompts, heads, sets, ablation, advance=advance)
    return [
        IoiSetting(
            template=template,
            ablation=ablation,
            primaries=tuple(site for site in one.replaced if isinstance(site, Head)),
            evidence=Evidence.of(effects, components, found, row),
            clean=effects.clean,
            ablated=effects.ablated[row],
            lost=effects.lost[row],
            heads=len(heads),
        )
        for row, one in enumerate(sets)
    ]


def table_of(settings: Sequence[IoiSetting], asked: IoiQuestion) -> pd.DataFrame:
    """One row per setting; see `Setting.row`."""
    return pd.DataFrame([one.row(asked) for one in settings])


def doubtful(settings: Sequence[IoiSetting]) -> list[str]:
    """Templates on which the model answers wrongly too often for anything to be read from them."""
    found = {one.template for one in settings if (one.clean > 0).mean() < _CLEAN}
    return [template for template in TEMPLATES if template in found]
