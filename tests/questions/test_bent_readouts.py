"""Log-probabilities and KL on prompts: lines and curvature against the model's own logits, on every family."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from audit_prompts import RUNS, asked_prompts, logits_of, outputs, patches_of

from selfrepair import DeltaEngine, ReferenceEngine, SelfRepairError
from selfrepair.effects.bent_readouts import BentReadout
from selfrepair.questions.measuring.prompt_effects import prompt_effects
from support import language_model
from zoo import families, interventions
from zoo.anatomy import ANATOMY

every_family = pytest.mark.parametrize("name", families.FAMILIES)


def measured(metric: str, logits: torch.Tensor, clean: torch.Tensor, asked, prompt: int) -> float:
    """The metric from the model's own logits, by its definition."""
    logs, before = torch.log_softmax(logits, -1), torch.log_softmax(clean, -1)
    if metric == "kl":
        return float((before.exp() * (before - logs)).sum())
    if metric == "prob-diff":
        right, wrong = (logs.exp()[list(side[prompt])].sum() for side in (asked.answers, asked.wrong))
        return float(right - wrong)
    right, wrong = (torch.logsumexp(logs[list(side[prompt])], 0) for side in (asked.answers, asked.wrong))
    return float(right - wrong)


@every_family
@pytest.mark.parametrize("metric", ["log-prob", "prob-diff", "kl"])
def test_total_effects_are_the_models_own_and_ledgers_close(name, metric):
    model, asked = language_model(name), asked_prompts()
    effects = prompt_effects(model, asked, RUNS[:2], metric=metric)
    for prompt in (0, 3):
        donor = outputs(model, asked.corrupt[prompt, : asked.lengths[prompt]])
        clean = logits_of(model.network, asked, prompt, interventions.Patches(), ANATOMY[name])
        assert effects.clean[prompt] == pytest.approx(measured(metric, clean, clean, asked, prompt), abs=1e-9)
        for row, run in enumerate(RUNS[:2]):
            patches = patches_of(model, name, asked, prompt, run, donor)
            ablated = logits_of(model.network, asked, prompt, patches, ANATOMY[name])
            change = measured(metric, ablated, clean, asked, prompt) - measured(metric, clean, clean, asked, prompt)
            assert effects.total_effect[row, prompt] == pytest.approx(change, abs=1e-9)
    assert effects.residual < 1e-9


@pytest.mark.parametrize("metric", ["log-prob", "prob-diff"])
def test_along_the_clean_gradient_lines_leave_a_curvature_and_along_the_mean_gradient_none(metric):
    model, asked = language_model("llama"), asked_prompts()
    rough = prompt_effects(model, asked, RUNS[:2], metric=metric)
    exact = prompt_effects(model, asked, RUNS[:2], metric=metric, exact=True)
    assert np.abs(rough.curvature).max() > 1e-3
    assert np.abs(exact.curvature).max() < 1e-9 < 1e-3 * np.abs(exact.total_effect).max()
    np.testing.assert_allclose(exact.total_effect, rough.total_effect, atol=1e-12)
    assert exact.residual < 1e-9


def test_small_changes_have_the_lines_of_the_gradient():
    """Log-probability's gradient is that of its logit less the mean by probability: a check by hand."""
    model, asked = language_model("gpt2"), asked_prompts()
    prompt, tokens = 0, torch.from_numpy(asked.tokens[:1, : asked.lengths[0]].astype(np.int64))
    readout = BentReadout("log-prob", tuple(asked.positions.tolist()), asked.answers)
    with model.running():
        from selfrepair import clean_run

        final = clean_run(model, tokens).final
        reading = readout.reading(model.anatomy, final, [prompt])
    logits = logits_of(model.network, asked, prompt, interventions.Patches(), ANATOMY["gpt2"])
    p = torch.softmax(logits, -1)
    among = p[list(asked.answers[prompt])]
    gradient = -p.clone()
    gradient[list(asked.answers[prompt])] += among / among.sum()
    weight, norm = model.anatomy.unembedding.weight, model.anatomy.final_norm
    torch.testing.assert_close(reading.u[0, 0], norm.fold(gradient @ weight), atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("engine", [ReferenceEngine(), DeltaEngine(fold=2)], ids=["reference", "delta"])
@pytest.mark.parametrize("metric", ["log-prob", "prob-diff", "kl"])
def test_engines_agree_on_lines_and_curvature(engine, metric):
    model, asked = language_model("gemma2"), asked_prompts()  # it caps its logits
    replay = prompt_effects(model, asked, RUNS[:3], metric=metric)
    other = prompt_effects(model, asked, RUNS[:3], metric=metric, engine=engine)
    for part in ("total_effect", "lost", "heads", "mlps", "post_norms", "norm", "curvature"):
        np.testing.assert_allclose(getattr(other, part), getattr(replay, part), atol=1e-9)


def test_kl_needs_no_answers_and_log_probabilities_do():
    model, asked = language_model("gpt2"), asked_prompts(answers=False)
    effects = prompt_effects(model, asked, RUNS[:1], metric="kl")
    assert (effects.total_effect > 0).all() and effects.residual < 1e-9
    for metric in ("log-prob", "prob-diff", "logit-diff"):
        with pytest.raises(SelfRepairError, match="answer"):
            prompt_effects(model, asked, RUNS[:1], metric=metric)


def test_unknown_metrics_are_refused():
    with pytest.raises(SelfRepairError, match="No readout is called 'logits'"):
        prompt_effects(language_model("gpt2"), asked_prompts(), RUNS[:1], metric="logits")


def test_a_probability_is_of_all_right_answers_less_all_wrong_ones():
    """As greater-than is scored: years after the one in the prompt against this one and those before."""
    model = language_model("gpt2")
    asked = asked_prompts((7, 9), groups=1)
    one = replace(asked, answers=((4, 5, 6), (7,)), wrong=((8, 9), (10, 11, 12)))
    effects = prompt_effects(model, one, RUNS[:1], "zero", metric="prob-diff")
    for prompt in range(2):
        logits = logits_of(model.network, one, prompt, interventions.Patches(), ANATOMY["gpt2"])
        p = torch.softmax(logits, -1)
        right, wrong = (float(p[list(side[prompt])].sum()) for side in (one.answers, one.wrong))
        assert effects.clean[prompt] == pytest.approx(right - wrong, abs=1e-12)
