"""Suppressors that turn round are re-aimed where more than half of that is attention, and not otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from attention_prompts import prompts_of

from selfrepair import Head, load
from selfrepair.ablation.interventions import Intervention
from selfrepair.questions.covering.motifs import LABELS, motif_labels, refine_labels
from selfrepair.questions.measuring.prompt_effects import prompt_effects
from selfrepair.questions.paths.attention_split import attention_split
from selfrepair.statistics.estimates import Estimate
from support import roomy
from zoo.planted import ANSWER, OTHER, PLANTED, POSITION


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("released_suppressor", "suppressor released", "suppressor released"),
        ("re_aimed_suppressor", "suppressor turned", "suppressor re-aimed"),
        ("turned_suppressor", "suppressor turned", "suppressor turned"),
        ("backup", "backup", "backup"),
    ],
)
def test_planted_heads_have_their_labels(name, before, after):
    case = PLANTED[name]()
    (head,) = case.head_lines
    model, base = load(roomy(case.model)), Intervention((Head(case.layer, case.head),))
    prompts = prompts_of(case.tokens.numpy(), (POSITION + 1,), (ANSWER,), (OTHER,))
    effects, split = (
        prompt_effects(model, prompts, [base], "zero"),
        attention_split(model, prompts, base, [Head(*head)], "zero"),
    )
    found = motif_labels(effects.heads[0][:, *head, None], effects.direct_heads[:, *head, None], 1, split.sampling)
    assert found == [before]
    assert refine_labels(found, split.qk_share) == [after]
    assert {before, after} <= set(LABELS)


@pytest.mark.parametrize(("share", "error", "sure"), [(0.9, 0.1, True), (0.6, 0.1, False), (0.6, np.nan, True)])
def test_a_share_that_may_be_below_a_half_is_not_enough(share, error, sure):
    estimate = Estimate(*(np.array([one]) for one in (share, error, np.nan, np.nan, 9)))
    assert refine_labels(["suppressor turned"], estimate) == [f"suppressor {'re-aimed' if sure else 'turned'}"]
