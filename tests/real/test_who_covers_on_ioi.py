"""Who covers for the default model's name movers: two suppressors, which an unsigned growth of energy ranks last."""

import numpy as np
import pytest

from selfrepair import Head, ReplayEngine
from selfrepair.bench.co_ablation import co_ablation
from selfrepair.bench.evidence import EVERY, GROWTH, Evidence, frozen, line
from selfrepair.bench.ioi.benchmark import primary_sets
from selfrepair.bench.ioi.texts import TEMPLATES, ioi_prompts
from selfrepair.bench.ranking import pearson
from selfrepair.questions.measuring.components import Components
from selfrepair.questions.measuring.prompt_effects import prompt_effects

pytestmark = [pytest.mark.real, pytest.mark.long]  # beside each other: one process loads the model

MOVERS = {Head(23, 3), Head(29, 1), Head(23, 0)}
SUPPRESSORS = [Head(24, 4), Head(29, 0)]


def test_the_line_of_one_pass_finds_who_covers(default):
    prompts = ioi_prompts(default.tokenizer, TEMPLATES[0], 4, 1)
    engine = ReplayEngine(fold=1)
    (base,) = primary_sets(default, prompts, (3,), engine)
    assert set(base.replaced) == MOVERS
    components = Components.of(default.anatomy)
    heads = [site for site in components.downstream(base) if isinstance(site, Head)]
    effects = prompt_effects(default, prompts, [base], "zero", engine=engine)
    evidence = Evidence.of(effects, components, co_ablation(default, prompts, heads, [base]), 0)
    assert pearson(line(evidence), frozen(evidence)) >= 0.98
    for values in (line(evidence), frozen(evidence)):
        assert [evidence.sites[place] for place in np.argsort(-values)[:2]] == SUPPRESSORS
    places = [evidence.sites.index(head) for head in SUPPRESSORS]
    assert (evidence.direct_effects.mean(0)[places] < 0).all()
    assert GROWTH.of(evidence, EVERY)[places[0]] < 0
