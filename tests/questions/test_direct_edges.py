"""Direct edges: path patching by one plain forward per receiver is the oracle, on every family."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attention_prompts import prompts_of

from selfrepair import Head, SelfRepairError, load
from selfrepair.ablation.interventions import Intervention, freezing
from selfrepair.ablation.sites import Attention, Mlp, Neuron
from selfrepair.questions.measuring.prompt_effects import prompt_effects
from selfrepair.questions.paths.attention_split import attention_split
from selfrepair.questions.paths.direct_edges import direct_edges
from support import language_model, roomy
from zoo import families, interventions, oracle
from zoo.anatomy import ANATOMY, value_constants
from zoo.planted import ANSWER, OTHER, PLANTED, POSITION, VOCAB

TOKENS, POSITIONS, ANSWERS, WRONG = families.tokens(3, seed=2), (11, 7, 8), (5, 6, 7), (8, 9, 10)
SENDERS = Intervention((Head(0, 1), Mlp(0), Head(1, 3)))
LAYERS, HEADS = families.LAYERS, families.HEADS
PARALLEL = [name for name, hand in ANATOMY.items() if hand.parallel]
SEQUENTIAL = [name for name, hand in ANATOMY.items() if not hand.parallel]


def random_prompts():
    return prompts_of(TOKENS.numpy(), (12, 12, 12), ANSWERS, WRONG, positions=POSITIONS)


def path_patching(name: str) -> dict[str, np.ndarray]:
    """Direct effects' changes [prompt] of each receiver, from a run in which it alone may respond to the senders."""
    network, hand = families.build(name).double(), ANATOMY[name]
    clean, constants = oracle.trace(network, hand, TOKENS), value_constants(network, hand)
    windows, positions = torch.arange(3), torch.tensor(POSITIONS)
    u = [
        oracle.directions(network, hand, torch.tensor(some)[:, None].expand(TOKENS.shape))[0]
        for some in (ANSWERS, WRONG)
    ]
    u = u[0] - u[1]
    sigma = hand.scale(network.get_submodule(hand.final_norm), clean.residual)
    before = oracle._head_lines(network, hand, clean.z, constants, clean, u, sigma)
    replaced = {(site.layer, site.head) for site in SENDERS.replaced if isinstance(site, Head)}
    found = {}
    for layer in range(LAYERS):
        for head in [*range(HEADS), None]:  # None: the MLP
            if (layer, head) in {*replaced, (0, None)}:
                continue
            patches = interventions.Patches()
            for at in range(LAYERS):
                mask, values = torch.ones(TOKENS.shape[1], HEADS, dtype=torch.bool), clean.z[at].clone()
                for own in range(HEADS):
                    if (at, own) in replaced:
                        values[:, :, own] = constants[at, own]
                if head is not None and at == layer:
                    mask[:, head] = False
                patches.heads[at] = (mask, values)
                if head is not None or at != layer:
                    write = torch.zeros_like(clean.mlps[at]) if at == 0 else clean.mlps[at] / hand.residual_multiplier
                    patches.mlps[at] = (torch.ones(TOKENS.shape[1], dtype=torch.bool), write)
            run = interventions.trace(network, hand, TOKENS, patches)
            if head is None:
                change = (u * (run.mlps[layer] - clean.mlps[layer])).sum(-1) / sigma
            else:
                change = (oracle._head_lines(network, hand, run.z, constants, clean, u, sigma) - before)[layer, head]
            found[f"L{layer}.mlp" if head is None else f"L{layer}H{head}"] = change[windows, positions].numpy()
    return found


@pytest.mark.parametrize("name", families.FAMILIES)
def test_all_receivers_at_once_equal_path_patching_one_by_one(name):
    model, prompts = language_model(name), random_prompts()
    edges, truth = direct_edges(model, prompts, SENDERS, "zero"), path_patching(name)
    effects = prompt_effects(model, prompts, [SENDERS], "zero")
    np.testing.assert_allclose(edges.lines, edges.components.lines(effects, 0), atol=1e-9)
    later = {str(site) for site in edges.components.downstream(SENDERS)}
    for site, direct in zip(edges.components.sites, edges.direct.T, strict=True):
        np.testing.assert_allclose(direct, truth[str(site)] if str(site) in later else 0, atol=1e-9, err_msg=str(site))
    assert np.abs(edges.mediated).max() > 1e-4 < np.abs(edges.direct).max()
    assert set(edges.table().component) == later


def mediated(name: str, *senders) -> dict[str, float]:
    edges = direct_edges(language_model(name), random_prompts(), Intervention(senders), "zero")
    assert np.abs(edges.lines).max() > 1e-4
    return dict(zip(map(str, edges.components.sites), np.abs(edges.mediated).max(0), strict=True))


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_nothing_lies_between_neighbours(name):
    """A head and its layer's MLP; an MLP and the next layer's heads."""
    assert mediated(name, Head(1, 0))["L1.mlp"] < 1e-9
    found = mediated(name, Mlp(1))
    assert max(found[f"L2H{head}"] for head in range(HEADS)) < 1e-9
    assert found["L2.mlp"] > 1e-6  # its layer's heads lie between


@pytest.mark.parametrize("name", PARALLEL)
def test_nothing_lies_between_neighbouring_parallel_blocks(name):
    found = mediated(name, Head(1, 0))
    assert max(found.values()) < 1e-9  # only layer 2 is left, all of which reads the sender beside clean writes
    assert max(mediated(name, Head(0, 0)).values()) > 1e-6


@pytest.mark.parametrize("name", ["gpt2", "granite"])
def test_responses_are_sizes_of_changes_of_writes(name):
    """Between neighbours the whole response is direct; sizes are those of hooks, multipliers included."""
    model, hand, senders = language_model(name), ANATOMY[name], Intervention((Head(1, 0),))
    edges = direct_edges(model, random_prompts(), senders, "zero")
    constant = value_constants(model.network, hand)[1, 0]
    runs = [oracle.trace(model.network, hand, TOKENS), oracle.trace(model.network, hand, TOKENS, 1, 0, constant)]
    windows, positions = torch.arange(3), torch.tensor(POSITIONS)
    sigma = hand.scale(model.network.get_submodule(hand.final_norm), runs[0].residual)[windows, positions]

    def size(write: torch.Tensor) -> np.ndarray:
        return ((write[windows, positions] / sigma[:, None]) ** 2).sum(-1).numpy()

    mlp, head = edges.components.index[Mlp(1)], edges.components.index[Head(2, 3)]
    write = (runs[1].z[2, :, :, 3] - runs[0].z[2, :, :, 3]) @ hand.w_o(model.network, 2, 3) * hand.residual_multiplier
    np.testing.assert_allclose(edges.responses[:, mlp], size(runs[1].mlps[1] - runs[0].mlps[1]), atol=1e-9)
    np.testing.assert_allclose(edges.responses[:, head], size(write), atol=1e-9)
    np.testing.assert_allclose(edges.direct_responses[:, mlp], edges.responses[:, mlp], atol=1e-9)
    assert np.abs(edges.direct_responses - edges.responses)[:, head].max() > 1e-4
    table = edges.table().set_index("component")
    assert table.direct_response["L1.mlp"] == pytest.approx(1, abs=1e-9)
    assert table.response["L2H3"] == pytest.approx(size(write).mean() ** 0.5, abs=1e-9)


def test_the_planted_backup_reads_the_primary_itself():
    case = PLANTED["backup"]()
    prompts = prompts_of(case.tokens.numpy(), (POSITION + 1,), (ANSWER,), (OTHER,))
    edges = direct_edges(load(roomy(case.model)), prompts, Intervention((Head(0, 0),)), "zero")
    row = edges.table().set_index("component").loc["L1H0"]
    centring = VOCAB / (VOCAB - 1)
    assert row.direct / centring == pytest.approx(case.head_lines[1, 0], abs=1e-9)
    assert row.mediated == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", ["gpt2", "falcon_7b", "gemma2"])
def test_splits_of_direct_edges_add_up_to_them(name):
    model, prompts = language_model(name), random_prompts()
    heads = [Head(2, head) for head in range(HEADS)]
    edges = direct_edges(model, prompts, SENDERS, "zero")
    split = attention_split(model, prompts, SENDERS, heads, "zero", direct=True)
    whole = attention_split(model, prompts, SENDERS, heads, "zero")
    for row, head in enumerate(heads):
        np.testing.assert_allclose(split.line[row], edges.direct[:, edges.components.index[head]], atol=1e-9)
    assert split.residual < 1e-9
    np.testing.assert_allclose(split.query + split.key, split.qk, atol=1e-9)
    assert np.abs(split.qk - whole.qk).max() > 1e-4


def test_draws_are_averaged():
    """Two donors: the mean of both ablated runs, as in the ledger."""
    model, prompts = language_model("llama"), random_prompts()
    edges = direct_edges(model, prompts, Intervention((Mlp(0),)), "resample", donors=2)
    effects = prompt_effects(model, prompts, [Intervention((Mlp(0),))], "resample", donors=2)
    np.testing.assert_allclose(edges.lines, edges.components.lines(effects, 0), atol=1e-9)
    heads = [edges.components.index[Head(1, head)] for head in range(HEADS)]
    np.testing.assert_allclose(edges.direct[:, heads], edges.lines[:, heads], atol=1e-9)


def test_senders_that_have_no_direct_edges_are_refused():
    model, prompts = language_model("gpt2"), random_prompts()
    with pytest.raises(SelfRepairError, match="L1N3 is part of an MLP"):
        direct_edges(model, prompts, Intervention((Neuron(1, 3),)), "zero")
    with pytest.raises(SelfRepairError, match="freezes 1 sites"):
        direct_edges(model, prompts, freezing(Intervention((Head(0, 0),)), [Attention(1)]), "zero")
    with pytest.raises(SelfRepairError, match="There is no L9H0"):
        direct_edges(model, prompts, Intervention((Head(9, 0),)), "zero")
