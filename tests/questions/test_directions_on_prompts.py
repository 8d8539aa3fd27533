"""Questions about a direction of the stream, on prompts of several lengths, against plain forwards one at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from audit_prompts import asked_prompts, value

from selfrepair import At, Direction, Head, Intervention, Mlp, SelfRepairError, ablate, card, measure, who
from selfrepair.ablation.names import parse_names
from selfrepair.ablation.sites import AtSpan
from selfrepair.bench.co_ablation import co_ablation
from selfrepair.questions.measuring.components import Components
from selfrepair.questions.measuring.prompt_effects import prompt_effects
from selfrepair.questions.paths.direct_edges import direct_edges
from support import corpus, language_model
from zoo import families, interventions
from zoo.anatomy import ANATOMY

LAYER = 1


def direction(model, layer: int = LAYER) -> Direction:
    return Direction(layer, "v", np.random.default_rng(layer).normal(size=model.anatomy.width))


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox_parallel"])
@pytest.mark.parametrize("span", [None, "S2"])
def test_erasing_a_direction_equals_plain_forwards_prompt_by_prompt(name, span):
    model, asked = language_model(name), asked_prompts()
    site = direction(model) if span is None else AtSpan(direction(model), span)
    runs = ablate(model, asked, [site], ablation="zero", progress=False)
    unit = torch.tensor(site.port.vector, dtype=torch.float64)
    for prompt in range(len(asked)):
        length = int(asked.lengths[prompt])
        mask = torch.ones(length, dtype=torch.bool)
        if span is not None:
            mask[:] = False
            mask[slice(*asked.spans[prompt][span])] = True
        hooks = interventions.Patches(directions={LAYER: (unit, mask, torch.zeros(1, length, dtype=torch.float64))})
        both = (interventions.Patches(), hooks)
        clean, erased = (value(model.network, asked, prompt, one, ANATOMY[name]) for one in both)
        assert abs(erased - clean) > 1e-6
        assert runs.effects.total_effect[0, prompt] == pytest.approx(erased - clean, abs=1e-9)
    assert runs.effects.residual < 1e-9


@pytest.mark.parametrize("ablation", ["corrupt", "resample", "mean"])
def test_every_ablation_closes_and_leaves_lower_components_alone(ablation):
    model, asked = language_model("gpt2"), asked_prompts()
    chosen = Intervention((direction(model), Head(2, 1)), (Mlp(2),), "more")
    effects = prompt_effects(model, asked, [Intervention((direction(model),)), chosen], ablation)
    assert effects.residual < 1e-9 and np.abs(effects.lost).min(-1).max() > 1e-6
    assert (effects.heads[:, :, : LAYER + 1] == 0).all() and (effects.mlps[:, :, : LAYER + 1] == 0).all()
    assert (effects.heads[:, :, LAYER + 1] != 0).any()


def test_who_and_card_name_what_lies_above_the_block():
    model, asked = language_model("gpt2"), asked_prompts()
    erased = direction(model)
    above = {str(site) for site in Components.of(model.anatomy).sites if site.port.layer > LAYER}
    found = who(model, asked, [erased], ablation="zero", controls=2, progress=False)
    assert set(found.table["component"]) == above and found.effects.residual < 1e-9
    assert list(card(model, asked, [erased], ablation="zero", progress=False).table["component"]) == ["L1.d:v"]


def test_edges_from_a_direction_to_the_next_block_are_direct():
    model, asked = language_model("gpt2"), asked_prompts()
    edges = direct_edges(model, asked, Intervention((direction(model),)), "zero")
    heads = [edges.components.index[Head(LAYER + 1, head)] for head in range(families.HEADS)]
    assert np.abs(edges.lines[:, heads]).max() > 1e-3
    np.testing.assert_allclose(edges.direct[:, heads], edges.lines[:, heads], atol=1e-12)


def test_co_ablation_takes_a_direction_as_a_set_below_the_sites():
    model, asked = language_model("gpt2"), asked_prompts(lengths=(9, 9, 9))
    base, sites = Intervention((direction(model, 0),)), [Head(2, 0), Mlp(1)]
    found = co_ablation(model, asked, sites, [base], "corrupt")
    runs = [base, *(Intervention((*base.replaced, site), name=f"{site} and") for site in sites)]
    effects = prompt_effects(model, asked, runs, "corrupt")
    np.testing.assert_allclose(found.given[0] - found.clean, effects.total_effect[0], atol=1e-10)
    np.testing.assert_allclose(found.joint[0] - found.clean, effects.total_effect[1:], atol=1e-10)
    with pytest.raises(SelfRepairError, match="cannot be frozen"):
        co_ablation(model, asked, [direction(model)], [Intervention((Head(0, 0),))], "corrupt")


def test_a_placebo_of_a_direction_and_other_widths_are_refused():
    model, asked = language_model("gpt2"), asked_prompts()
    with pytest.raises(SelfRepairError, match="A placebo of a direction"):
        ablate(model, asked, [direction(model)], ablation="placebo", progress=False)
    with pytest.raises(SelfRepairError, match="has 3 numbers; the residual stream has"):
        ablate(model, asked, [Direction(1, "short", (1, 2, 2))], ablation="zero", progress=False)
    with pytest.raises(SelfRepairError, match=r"L0.d:v@1 would also erase"):
        who(model, asked, [At(direction(model, 0), (1,)), *parse_names("L0H1")], ablation="zero", progress=False)


def test_runs_over_a_corpus_are_refused_before_they_begin():
    model = language_model("gpt2")
    with pytest.raises(SelfRepairError, match="cannot be ablated over a corpus"):
        measure(model, corpus(), interventions=[direction(model)], ablation="zero", replicates=10, progress=False)
