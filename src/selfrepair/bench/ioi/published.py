"""The protocol of the CoAx paper (arXiv 2607.01940) on GPT-2 small: do we get what was published?

Heads and words are those of the paper and its release: name movers as primaries, the eight documented backups (Wang et
al., arXiv 2211.00593) as labels, 96 prompts for each of four seeds, zero ablation, whole vocabulary, last position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from selfrepair.ablation.interventions import together
from selfrepair.ablation.sites import Head
from selfrepair.bench.evidence import CONDITIONAL, EVERY, GROWTH, LINE, MARGINAL, RATIO, Score
from selfrepair.bench.ioi.benchmark import measure_setting
from selfrepair.bench.ioi.texts import Words, tokenised
from selfrepair.bench.ranking import auc
from selfrepair.engine.contract import Engine
from selfrepair.model.language_model import LanguageModel
from selfrepair.progress import Advance, ignore
from selfrepair.prompts.prompts import Prompts
from selfrepair.statistics.estimates import Array

SEEDS, PROMPTS = (1, 15, 22, 8), 96
TEMPLATE = "When {io} and {s} went to the {place}, {s} gave a {thing} to"
WORDS = Words(
    names=(
        *("John", "Mary", "Tom", "James", "Dan", "Sid", "Martin", "Anna"),
        *("Paul", "Kate", "Mark", "Lucy", "Peter", "Sarah", "David", "Emma"),
    ),
    places=("store", "park", "school", "office", "garden", "station", "market", "library"),
    things=("drink", "book", "ball", "ring", "kiss", "snack", "bone", "note"),
)
NAME_MOVERS = (Head(9, 9), Head(10, 0), Head(9, 6))
BACKUPS = tuple(
    Head(layer, head) for layer, head in ((9, 0), (9, 7), (10, 1), (10, 2), (10, 6), (10, 10), (11, 2), (11, 9))
)
STATED: Mapping[str, float] = {GROWTH.name: 0.941, RATIO.name: 0.984, CONDITIONAL.name: 0.758, MARGINAL.name: 0.603}
_COMPARED: tuple[Score, ...] = (GROWTH, RATIO, CONDITIONAL, MARGINAL, LINE)


@dataclass(frozen=True, eq=False)
class Published:
    """AUC for the documented backups.

    Attributes:
        aucs: by score, [seed].
        seeds: of prompts.
        prompts: for each seed.
    """

    aucs: Mapping[str, Array]
    seeds: tuple[int, ...]
    prompts: int

    def rows(self) -> dict[str, tuple[float | None, Array]]:
        """What was published, where it was, and what was found [seed], by score."""
        return {name: (STATED.get(name), values) for name, values in self.aucs.items()}


def is_gpt2_small(model: LanguageModel) -> bool:
    """Whether the model has GPT-2 small's shape and vocabulary: the published heads are then its heads."""
    config = model.network.config
    shape = (model.anatomy.layers, model.anatomy.heads, len(model.anatomy.unembedding.weight))
    return getattr(config, "model_type", "") == "gpt2" and shape == (12, 12, 50257)


def published_prompts(tokenizer: object, number: int, seed: int, words: Words = WORDS) -> Prompts:
    """The paper's prompts, drawn in its order; nothing is put in front.

    Args:
        tokenizer: GPT-2's.
        number: how many.
        seed: of the draw.
        words: what templates are filled with.
    """
    rng, texts, pairs = np.random.default_rng(seed), [], []
    for _ in range(number):
        right, wrong = (str(name) for name in rng.choice(words.names, size=2, replace=False))
        place = rng.choice(words.places)
        thing = rng.choice(words.things)
        texts.append(TEMPLATE.format(io=right, s=wrong, place=place, thing=thing))
        pairs.append((right, wrong))
    return tokenised(tokenizer, texts, pairs, TEMPLATE, bos=False)


def published_benchmark(
    model: LanguageModel,
    seeds: Sequence[int] = SEEDS,
    prompts: int = PROMPTS,
    *,
    words: Words = WORDS,
    primaries: Sequence[Head] = NAME_MOVERS,
    backups: Sequence[Head] = BACKUPS,
    engine: Engine | None = None,
    advance: Advance = ignore,
) -> Published:
    """Ranks GPT-2 small's heads as the paper does.

    Args:
        model: GPT-2 small.
        seeds: of prompts.
        prompts: for each seed.
        words: what templates are filled with.
        primaries: what is ablated.
        backups: what should be found.
        engine: computes the ledgers; replay by default.
        advance: told of heads times prompts as they are done.
    """
    base, aucs = together("name movers", primaries), {score.name: [] for score in _COMPARED}  # type: ignore[var-annotated]
    for seed in seeds:
        texts = published_prompts(model.tokenizer, prompts, seed, words)
        (setting,) = measure_setting(model, texts, TEMPLATE, "zero", [base], engine, advance)
        labels = np.array([site in backups for site in setting.evidence.sites])
        for score in _COMPARED:
            aucs[score.name].append(auc(labels, score.of(setting.evidence, EVERY)))
    return Published({name: np.array(values) for name, values in aucs.items()}, tuple(seeds), prompts)
