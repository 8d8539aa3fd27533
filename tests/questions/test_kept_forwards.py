"""Forwards of unchanged prompts are made once for a question, and never taken for others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from audit_prompts import RUNS, asked_prompts

from selfrepair.effects.readouts import LogitDifference
from selfrepair.engine.clean import clean_run
from selfrepair.model.ports import Port
from selfrepair.questions.measuring.kept_forwards import KeptForwards, clean_of, outputs_of
from selfrepair.questions.measuring.prompt_effects import prompt_effects
from selfrepair.questions.question import Question
from selfrepair.questions.question_settings import AuditSettings
from support import TOKENS, language_model

PARTS = ("clean", "total_effect", "lost", "heads", "mlps", "post_norms", "norm", "curvature", "direct_heads")


def forwards(model, work) -> int:
    """Whole forwards that some work takes: blocks of the first layer that are run by the trunk."""
    count = []
    handle = model.anatomy.final_norm_module.register_forward_hook(lambda *_: count.append(1))
    try:
        work()
    finally:
        handle.remove()
    return len(count)


@pytest.mark.parametrize("ablation", ["corrupt", "resample", "mean", "zero", "placebo"])
@pytest.mark.parametrize("metric", ["logit-diff", "log-prob", "kl"])
def test_measurements_of_a_question_are_what_each_is_alone(ablation, metric):
    model, asked = language_model("llama"), asked_prompts()
    question = Question(model, asked, AuditSettings(ablation=ablation, metric=metric))
    for runs in (RUNS[:1], RUNS, RUNS[1:]):
        shared = question.measure(runs)
        alone = prompt_effects(model, asked, runs, ablation, metric=metric)
        for part in PARTS:
            np.testing.assert_allclose(getattr(shared, part), getattr(alone, part), atol=1e-11)


def test_the_second_measurement_takes_no_forward_of_prompts_and_twins():
    model = language_model("llama")
    question = Question(model, asked_prompts(), AuditSettings(ablation="corrupt"))
    first = forwards(model, lambda: question.measure(RUNS))
    again = forwards(model, lambda: question.measure(RUNS))
    assert again == 0 < first


def test_other_readings_tokens_and_ports_are_not_taken_for_those_that_are_kept():
    model, kept = language_model("gpt2"), KeptForwards()
    end, other = (LogitDifference((-1,) * len(TOKENS), ((answer,),) * len(TOKENS)) for answer in (5, 6))
    with model.running(), kept.used():
        for readout in (end, other, end):
            for tokens in (TOKENS, TOKENS.flip(0)):
                for ports in ([Port(1, "mlp")], [Port(0, "mlp"), Port(1, "heads")]):
                    reading = readout.reading(model.anatomy, tokens)
                    run, truth = clean_of(model, tokens, reading, ports), clean_run(model, tokens, reading, ports)
                    assert torch.equal(run.scaled_logit, truth.scaled_logit)
                    for port in ports:
                        assert torch.equal(run.outputs_at(port), truth.outputs_at(port))
                        assert torch.equal(outputs_of(model, tokens, ports)[port], truth.outputs_at(port))


def test_no_more_is_kept_than_there_is_room_for_and_the_last_always():
    model, kept = language_model("gpt2"), KeptForwards(most=1)
    with model.running(), kept.used():
        for tokens in (TOKENS, TOKENS.flip(0), TOKENS.flip(1)):
            outputs_of(model, tokens, [Port(0, "mlp")])
            clean_of(
                model,
                tokens,
                LogitDifference((-1,) * len(TOKENS), ((5,),) * len(TOKENS)).reading(model.anatomy, tokens),
            )
    assert len(kept._clean) == len(kept._outputs) == 1


def test_nothing_is_kept_outside_a_question():
    model = language_model("gpt2")
    with model.running():
        assert outputs_of(model, TOKENS, [Port(0, "mlp")]) is not outputs_of(model, TOKENS, [Port(0, "mlp")])
