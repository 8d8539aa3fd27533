"""Co-ablation against its published definition by plain forwards with hooks, and the properties that it must have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from selfrepair import SelfRepairError
from selfrepair.ablation.interventions import Intervention, each, freezing, together
from selfrepair.ablation.sites import Head, Mlp
from selfrepair.bench.co_ablation import co_ablation
from selfrepair.engine.replay import ReplayEngine
from selfrepair.questions.measuring.prompt_effects import prompt_effects
from support import DONORS, TOKENS
from zoo import families, interventions, oracle
from zoo.anatomy import ANATOMY, value_constants

FAMILIES = ("gpt2", "gpt_neox_parallel", "gemma2", "mixtral")
HEADS = [Head(layer, head) for layer in range(families.LAYERS) for head in range(families.HEADS)]
SITES = [*HEADS, *map(Mlp, range(families.LAYERS))]
NOTHING = Intervention((), name="nothing")
SETS = [together("first", [Head(0, 1), Head(1, 2)]), NOTHING, together("last", [Head(2, 3), Mlp(1)])]


def last_logits(model, name: str, replaced, held=(), ablation: str = "zero") -> torch.Tensor:
    """The model's own logits at the last position, with some sites replaced and some held at their clean output."""
    anatomy = ANATOMY[name]
    with torch.no_grad(), model.running():
        network = model.network
        clean, donor = (oracle.trace(network, anatomy, tokens) for tokens in (TOKENS, DONORS))
        constants, patches = value_constants(network, anatomy), interventions.Patches()
        for site in (*held, *replaced):
            layer, replacing = site.port.layer, site in replaced
            if isinstance(site, Head):
                zero = constants[layer].expand_as(clean.z[layer])
                value = clean.z[layer] if not replacing else zero if ablation == "zero" else donor.z[layer]
                mask, values = patches.heads.get(
                    layer, (torch.zeros(value.shape[1:3], dtype=torch.bool), clean.z[layer].clone())
                )
                mask[:, site.head], values[:, :, site.head] = True, value[:, :, site.head]
                patches.heads[layer] = (mask, values)
            else:
                module = interventions.mlp_module(network, anatomy, layer)
                written = [output_of(network, module, tokens) for tokens in (TOKENS, DONORS)]
                value = written[0] if not replacing else 0 * written[0] if ablation == "zero" else written[1]
                patches.mlps[layer] = (torch.ones(TOKENS.shape[1], dtype=torch.bool), value)
        return interventions.trace(network, anatomy, TOKENS, patches).logits[:, -1]


def output_of(network, module, tokens) -> torch.Tensor:
    """What a module puts out, [prompt, position, width]."""
    seen = []
    hook = module.register_forward_hook(lambda _module, _given, out: seen.append(out.clone()))
    network(tokens, use_cache=False)
    hook.remove()
    return seen[0].reshape(*tokens.shape, -1)


def feature(change, probability):
    """The published feature of a change of logits, [prompt, vocabulary]."""
    return probability.sqrt() * (change - (probability * change).sum(-1, keepdim=True))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("ablation", ["zero", "corrupt"])
def test_energies_are_those_of_the_published_definition(model, prompts, name, ablation):
    found = co_ablation(model(name), prompts, SITES, SETS, ablation)
    clean = last_logits(model(name), name, ())
    probability = clean.softmax(-1)
    chosen = [Head(0, 0), Head(1, 3), Head(2, 1), Mlp(0), Mlp(2)] if ablation == "zero" else [Head(1, 0), Mlp(2)]
    for site in chosen:
        place, alone = SITES.index(site), last_logits(model(name), name, (site,), ablation=ablation)
        first = feature(alone - clean, probability)
        np.testing.assert_allclose(found.marginal[place], first.square().sum(-1), rtol=1e-9, atol=1e-12)
        for row in (0, 2):
            gone = SETS[row].replaced
            given = last_logits(model(name), name, gone, ablation=ablation)
            both = last_logits(model(name), name, (*gone, site), ablation=ablation)
            second = feature(both - given, probability)
            np.testing.assert_allclose(found.conditional[row, place], second.square().sum(-1), rtol=1e-9, atol=1e-12)
            interaction = second - first
            np.testing.assert_allclose(found.coupling[row, place], interaction.square().sum(-1), rtol=1e-8, atol=1e-12)
            growth = (interaction.square() + 2 * first * interaction).sum(-1)
            np.testing.assert_allclose(found.growth[row, place], growth, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ("gpt2", "gemma2"))
def test_values_are_those_of_the_ledgers_of_the_same_runs(model, prompts, name):
    """Ablations alone, beside a set, and with a site held: an engine says the same of each."""
    base = SETS[0]
    found = co_ablation(model(name), prompts, SITES, [base], "corrupt")
    others = [site for site in SITES if site not in base.replaced]
    runs = [
        *each(SITES),
        *(Intervention((*base.replaced, site), name=f"{site} and") for site in others),
        *(freezing(base, [site], f"{site} held") for site in others),
    ]
    effects = prompt_effects(model(name), prompts, [base, *runs], "corrupt", engine=ReplayEngine(fold=8))
    np.testing.assert_allclose(found.given[0] - found.clean, effects.total_effect[0], atol=1e-10)
    fixed = effects.norm_frozen
    np.testing.assert_allclose(found.fixed_given[0] - found.clean, fixed[0], atol=1e-10)
    for site in SITES:
        place = SITES.index(site)
        alone = effects.total_effect[effects.row(str(site))]
        np.testing.assert_allclose(found.alone[place] - found.clean, alone, atol=1e-10)
        if site not in others:
            continue
        both, held = (effects.total_effect[effects.row(f"{site} {what}")] for what in ("and", "held"))
        np.testing.assert_allclose(found.joint[0, place] - found.clean, both, atol=1e-10)
        np.testing.assert_allclose(found.frozen[0, place] - found.clean, held, atol=1e-10)
        np.testing.assert_allclose(found.covered[0, place], effects.total_effect[0] - held, atol=1e-10)
        growth = fixed[0] - fixed[effects.row(f"{site} and")] + fixed[effects.row(str(site))]
        np.testing.assert_allclose(found.fixed_growth[0, place], growth, atol=1e-10)
        np.testing.assert_allclose(found.effect_growth[0, place], effects.total_effect[0] - both + alone, atol=1e-10)


def test_an_empty_set_reproduces_the_sites_alone_bit_for_bit(model, prompts):
    found = co_ablation(model("llama"), prompts, SITES, SETS)
    assert (found.conditional[1] == found.marginal).all() and (found.joint[1] == found.alone).all()
    assert (found.growth[1] == 0).all() and (found.coupling[1] == 0).all()
    assert (found.covered[1] == 0).all() and (found.effect_growth[1] == 0).all()


def test_members_of_a_set_have_no_score(model, prompts):
    found = co_ablation(model("llama"), prompts, SITES, SETS)
    for row, one in enumerate(SETS):
        missing = np.isnan(found.growth[row]).all(-1)
        assert [site for site, gone in zip(SITES, missing, strict=True) if gone] == [
            site for site in SITES if site in one.replaced
        ]
        assert (np.isnan(found.joint[row]).all(-1) == missing).all() and not np.isnan(found.marginal).any()


def test_other_donors_give_other_answers(model, prompts):
    zero, corrupt = (co_ablation(model("llama"), prompts, HEADS, SETS[:1], one) for one in ("zero", "corrupt"))
    others = prompts_with_other_twins(prompts)
    again = co_ablation(model("llama"), others, HEADS, SETS[:1], "corrupt")
    assert not np.allclose(corrupt.growth, again.growth, equal_nan=True)
    assert not np.allclose(corrupt.growth, zero.growth, equal_nan=True)


def prompts_with_other_twins(prompts):
    from dataclasses import replace

    return replace(prompts, corrupt=prompts.corrupt[::-1].copy())


def test_sites_below_a_set_cannot_respond_and_have_freeze_tests_of_exactly_zero(model, prompts):
    found = co_ablation(model("gpt2"), prompts, SITES, [together("top", [Head(2, 0)])])
    below = [place for place, site in enumerate(SITES) if site.port.layer < 2 or site == Head(2, 1)]
    assert (found.covered[0, below] == 0).all()
    assert np.abs(found.covered[0, SITES.index(Mlp(2))]).min() > 1e-6


def test_nothing_to_ablate_is_refused(model, prompts):
    with pytest.raises(SelfRepairError, match="needs sites"):
        co_ablation(model("gpt2"), prompts, [], SETS)
