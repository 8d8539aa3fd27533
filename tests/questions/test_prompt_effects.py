"""Ledgers on prompts of several lengths, against plain forwards of one prompt at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from audit_prompts import RUNS, asked_prompts, outputs, patches_of, value
from hypothesis import given, settings
from hypothesis import strategies as st

from selfrepair import DeltaEngine, Head, Intervention, ReferenceEngine, SelfRepairError
from selfrepair.ablation.names import parse_names
from selfrepair.questions.measuring.components import Components, lies_in
from selfrepair.questions.measuring.inputs import donors_of
from selfrepair.questions.measuring.prompt_effects import prompt_effects
from selfrepair.questions.measuring.responses import response_sizes
from support import language_model
from zoo import families, interventions
from zoo.anatomy import ANATOMY

every_family = pytest.mark.parametrize("name", families.FAMILIES)


@every_family
def test_twins_in_the_place_of_sites_equal_plain_forwards_prompt_by_prompt(name):
    model, asked = language_model(name), asked_prompts()
    effects = prompt_effects(model, asked, RUNS)
    assert effects.operator == "corrupt"
    for prompt in (0, 1, 3):
        donor = outputs(model, asked.corrupt[prompt, : asked.lengths[prompt]])
        clean = value(model.network, asked, prompt, interventions.Patches(), ANATOMY[name])
        for row, run in enumerate(RUNS):
            patches = patches_of(model, name, asked, prompt, run, donor)
            changed = value(model.network, asked, prompt, patches, ANATOMY[name]) - clean
            assert effects.total_effect[row, prompt] == pytest.approx(changed, abs=1e-9), (run.name, prompt)
    assert effects.residual < 1e-9


@pytest.mark.parametrize("engine", [ReferenceEngine(), DeltaEngine(fold=2)], ids=["reference", "delta"])
def test_engines_agree(engine):
    model, asked = language_model("llama"), asked_prompts()
    replay, other = prompt_effects(model, asked, RUNS), prompt_effects(model, asked, RUNS, engine=engine)
    for part in ("total_effect", "lost", "heads", "mlps", "norm"):
        np.testing.assert_allclose(getattr(other, part), getattr(replay, part), atol=1e-9)


@pytest.mark.parametrize("ablation", ["corrupt", "resample", "mean", "zero"])
def test_a_prompt_is_measured_alike_whatever_it_is_batched_with(ablation):
    model, asked = language_model("gpt2"), asked_prompts()
    together = prompt_effects(model, asked, RUNS, ablation)
    assert np.abs(together.total_effect[0]).min() > 1e-6
    if ablation in ("corrupt", "zero"):  # the others draw on all prompts
        alone = prompt_effects(model, asked.select([3]), RUNS, ablation)
        np.testing.assert_allclose(alone.total_effect[:, 0], together.total_effect[:, 3], atol=1e-12)
        np.testing.assert_allclose(alone.heads[:, 0], together.heads[:, 3], atol=1e-12)


def test_the_mean_is_over_all_positions_of_all_prompts_and_no_padding():
    model, asked = language_model("gpt2"), asked_prompts()
    port = Head(1, 2).port
    every = [outputs(model, asked.tokens[place, : asked.lengths[place]])[port][0] for place in range(len(asked))]
    mean = torch.cat(every).mean(0)
    effects = prompt_effects(model, asked, [Intervention((Head(1, 2),))], "mean")
    for prompt in range(3):
        length = int(asked.lengths[prompt])
        donor = {port: mean.expand(1, length, *mean.shape)}
        patches = patches_of(model, "gpt2", asked, prompt, effects.interventions[0], donor)
        changed = value(model.network, asked, prompt, patches, ANATOMY["gpt2"])
        clean = value(model.network, asked, prompt, interventions.Patches(), ANATOMY["gpt2"])
        assert effects.total_effect[0, prompt] == pytest.approx(changed - clean, abs=1e-9)


def test_donors_are_other_prompts_of_the_same_length_with_another_answer():
    asked = asked_prompts(lengths=(7,) * 6 + (9,) * 3)
    for draw in range(3):
        chosen = donors_of(asked, np.arange(9), draw, seed=0)
        assert (asked.lengths[chosen] == asked.lengths).all() and (chosen != np.arange(9)).all()
        assert all(asked.answers[donor] != asked.answers[own] for own, donor in enumerate(chosen))
    same = donors_of(asked, np.array([4]), 2, seed=0)[0]
    assert same == donors_of(asked, np.arange(9), 2, seed=0)[4]  # in any batch


def test_several_donors_average_effects():
    model, asked = language_model("gpt2"), asked_prompts(lengths=(8,) * 5)
    three = prompt_effects(model, asked, RUNS[:1], "resample", donors=3)
    one = prompt_effects(model, asked, RUNS[:1], "resample")
    assert not np.allclose(three.total_effect, one.total_effect)
    assert three.residual < 1e-9


@pytest.mark.parametrize(
    ("asked", "ablation", "part"),
    [
        (asked_prompts(lengths=(7, 9)), "resample", "none to resample from"),
        (asked_prompts(twins=False), "corrupt", "not every prompt has one"),
        (asked_prompts(), "average", "No ablation on prompts"),
        (asked_prompts(), "position-mean", "prompts of one length|one length"),
    ],
)
def test_what_the_prompts_do_not_allow_is_refused(asked, ablation, part):
    with pytest.raises(SelfRepairError, match=part):
        prompt_effects(language_model("gpt2"), asked, RUNS[:1], ablation)


def test_runs_of_one_name_are_refused():
    with pytest.raises(SelfRepairError, match="Two interventions"):
        prompt_effects(language_model("gpt2"), asked_prompts(), [RUNS[0], RUNS[0]])


def test_an_unknown_span_is_refused_by_name():
    run = Intervention(tuple(parse_names("L1H0@IO")))
    with pytest.raises(SelfRepairError, match="no span 'IO'"):
        prompt_effects(language_model("gpt2"), asked_prompts(), [run])


def test_engines_refuse_spans_that_are_not_resolved():
    from selfrepair import NextToken, ReplayEngine, clean_run

    model = language_model("gpt2")
    run = Intervention(tuple(parse_names("L1H0@S2")))
    tokens = torch.arange(3, 15)[None]
    for engine in (ReplayEngine(fold=1), ReferenceEngine(), DeltaEngine()):
        with model.running(), pytest.raises(SelfRepairError, match="lies elsewhere in each prompt"):
            clean = clean_run(model, tokens, NextToken().reading(model.anatomy, tokens))
            list(engine.sweep(model, clean, [run], clean.outputs_at, True))


def test_responses_are_sizes_of_changes_of_writes():
    model, asked = language_model("llama"), asked_prompts(lengths=(8,) * 4)
    run = Intervention((Head(0, 1),))
    sizes = response_sizes(model, asked, run, "zero")
    components = Components.of(model.anatomy)
    effects = prompt_effects(model, asked, [run], "zero")
    lines = np.abs(components.lines(effects, 0))
    above = components.layers > 0
    assert (sizes[above] > 0).all() and sizes[components.index[Head(0, 2)]] == 0
    # |u . change / sigma| is at most |u| |change| / sigma
    size_of_u = np.sqrt((_direction(model, asked) ** 2).sum(-1))
    assert (lines[:, above].mean(0) <= size_of_u.max() * sizes[above] * np.sqrt(len(asked)) + 1e-9).all()


def _direction(model, asked):
    tokens = torch.from_numpy(asked.tokens.astype(np.int64))
    return asked.readout().reading(model.anatomy, tokens).u[:, 0].numpy()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2), st.integers(0, 3), st.sampled_from(["L{}H{}", "L{}.mlp", "L{}.attn", "L{}N{}"]))
def test_lies_in_is_symmetric_and_knows_itself(layer, entry, spelling):
    (site,) = parse_names(spelling.format(layer, entry))
    assert lies_in(site, [site])
    for other in parse_names("L0H1 L1.mlp L2.attn L1N3 L0.attn"):
        assert lies_in(site, [other]) == lies_in(other, [site])
