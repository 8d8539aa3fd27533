"""Prompts on a model: metric, twin, ranks, errors over groups, and what speaks against going on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from prompts.words import tokenizer
from selfrepair.errors import SelfRepairError
from selfrepair.model.load import load
from selfrepair.prompts import Prompt, Prompts
from selfrepair.prompts.checked_prompts import check_prompts, json_rows

TEXTS = ["When Mary and John went to the store, John gave a drink to", "The war from the year 17", "Mary went to the"]
TWINS = ["When Anna and Tom went to the house, Anna gave a drink to", "The war to the year 18", "John went to the"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    words = tokenizer(front=True)
    made = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=16, n_positions=32, vocab_size=len(words))).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(4.0)
    return load(made, words)


def made(model, wrong: bool = True, **changes) -> Prompts:
    pairs = zip(TEXTS, TWINS, strict=True)
    some = [Prompt(text, (" Mary",), (" John", " Tom") if wrong else (), twin, **changes) for text, twin in pairs]
    return Prompts.of(some, model)


def own_logits(model, row, length) -> torch.Tensor:
    """The model's own logits behind one prompt that is alone in its batch, so that nothing is padded."""
    with torch.no_grad():
        return model.network(torch.tensor(row[None, :length])).logits[0, -1].double()


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_metrics_and_ranks_are_those_of_the_models_own_logits(model, batch):
    prompts = made(model)
    found = check_prompts(model, prompts, batch)
    for place in range(len(prompts)):
        for tokens, metric in ((prompts.tokens, found.metric), (prompts.corrupt, found.twin_metric)):
            logits = own_logits(model, tokens[place], prompts.lengths[place])
            right, wrong = logits[list(prompts.answers[place])].mean(), logits[list(prompts.wrong[place])].mean()
            assert metric[place] == pytest.approx(float(right - wrong), abs=1e-5)
        logits = own_logits(model, prompts.tokens[place], prompts.lengths[place])
        assert found.ranks[place] == 1 + int((logits > logits[prompts.answers[place][0]]).sum())
    assert found.right.tolist() == (found.metric > 0).tolist()
    assert found.accuracy == pytest.approx(np.mean(found.metric > 0))


def test_without_wrong_answers_the_metric_is_a_centred_logit_and_right_means_first(model):
    prompts = made(model, wrong=False)
    logits = own_logits(model, prompts.tokens[0], prompts.lengths[0])
    best = int(logits.argmax())
    found = check_prompts(model, replace(prompts, answers=((best,), *prompts.answers[1:])))
    assert found.metric[0] == pytest.approx(float(logits[best] - logits.mean()), abs=1e-5)
    assert found.ranks[0] == 1 and found.right.tolist() == (found.ranks == 1).tolist()


def test_of_several_answers_the_best_is_ranked(model):
    prompts = made(model, wrong=False)
    logits = own_logits(model, prompts.tokens[0], prompts.lengths[0])
    order = logits.argsort(descending=True).tolist()
    for answers, rank in (((order[0], order[1]), 1), ((order[5], order[2]), 3)):
        assert check_prompts(model, replace(prompts, answers=(answers, *prompts.answers[1:]))).ranks[0] == rank


def test_prompts_without_answers_are_counted_and_nothing_else(model):
    prompts = Prompts.of([Prompt(text, corrupt=twin) for text, twin in zip(TEXTS, TWINS, strict=True)], model)
    summary = check_prompts(model, prompts).summary()
    assert (summary["accuracy"], summary["metric"], summary["prompts"]) == (None, None, 3)
    assert summary["metric_is"] == "nothing: there are no answers"


def test_errors_are_over_groups_where_they_are_a_sample(model):
    prompts = made(model)
    found = check_prompts(model, prompts)
    values = np.array([1.0, 2.0, 6.0])
    few = found.mean(values)
    assert few.over == "prompts" and few.error == pytest.approx(values.std(ddof=1) / np.sqrt(3))
    many = replace(found, prompts=Prompts.of([Prompt(TEXTS[0], (5,), group=str(at // 2)) for at in range(16)], model))
    pairs = np.repeat(np.arange(8.0), 2)  # prompts of one group say the same: 8 values, not 16
    assert many.mean(pairs).over == "groups"
    assert many.mean(pairs).error == pytest.approx(np.arange(8.0).std(ddof=1) / np.sqrt(8))
    weighted = replace(found, prompts=replace(prompts, weights=np.array([1.0, 1.0, 2.0])))
    assert weighted.mean(values).value == pytest.approx(15 / 4)
    assert np.isnan(replace(found, prompts=prompts.select([0])).mean(values[:1]).error)


def told(model, prompts: Prompts) -> str:
    return "\n".join(check_prompts(model, prompts).warnings)


def test_what_speaks_against_going_on_is_said(model):
    prompts = made(model)
    found = check_prompts(model, prompts)
    good, bad = ((found.metric > 0) == wanted for wanted in (True, False))
    flipped = replace(  # where the model prefers the wrong answers, these are the right ones
        prompts,
        answers=tuple(one if ok else two for ok, one, two in zip(good, prompts.answers, prompts.wrong, strict=True)),
        wrong=tuple(two if ok else one for ok, one, two in zip(good, prompts.answers, prompts.wrong, strict=True)),
    )
    worst = replace(flipped, answers=flipped.wrong, wrong=flipped.answers)
    assert "less than 90%" not in told(model, flipped) and bad.any() | good.any()
    assert "preferred on 0% of the prompts, less than 90%" in told(model, worst)
    assert "differ by +0.00, less than 3 standard errors" in told(model, replace(prompts, corrupt=prompts.tokens))
    assert "3 twins are the prompt itself" in told(model, replace(prompts, corrupt=prompts.tokens))
    assert "All prompts are of one group" in told(model, prompts)
    assert "There are 3 groups, fewer than 8" in told(model, replace(prompts, groups=("a", "b", "c")))
    assert "There is one prompt" in told(model, prompts.select([0]))
    assert "1 prompts say the same as another" in told(model, prompts.select([0, 1, 1]))
    half = Prompts.of([Prompt(TEXTS[0], (5,), corrupt=TWINS[0]), Prompt(TEXTS[1], (5,))], model)
    assert "1 of 2 prompts have a twin" in told(model, half)
    eight = Prompts.of([Prompt(TEXTS[0], (5,), group=str(at)) for at in range(8)], model)
    assert "group" not in told(model, eight)


def test_longer_prompts_than_the_model_reads_are_refused(model):
    with pytest.raises(SelfRepairError, match="It has 33 tokens; at most 32 are read"):
        Prompts.of([Prompt("The" + " the" * 31, (" war",))], model)


def test_rows_are_jsons_own_values(model):
    import json

    found = check_prompts(model, Prompts.of([Prompt(TEXTS[0], (5,), group="a")], model))
    (row,) = json.loads(json.dumps(json_rows(found), allow_nan=False))
    assert row["twin_metric"] is None and row["rank"] == found.ranks[0] and row["answers"] == [5]
    assert list(found.table().columns[-4:]) == ["metric", "twin_metric", "right", "rank"]
