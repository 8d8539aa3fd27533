"""Blocks that multiply each dimension of the stream, and of what they add, with a number of its own (Doge, Zaya)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from census.forwards import Part, effects, texts
from census.small import build
from selfrepair import (
    DeltaEngine,
    Direction,
    Head,
    Mlp,
    Neuron,
    ReferenceEngine,
    RefusedModel,
    ReplayEngine,
    SelfRepairError,
    clean_run,
    each,
    load,
    port_outputs,
)
from selfrepair.ablation.interventions import ports_of
from selfrepair.cli.check import _parts
from selfrepair.model.proofs import prove_at_load
from selfrepair.model.usual_layers import require_usual_layers


@pytest.fixture(scope="module")
def doge():
    return load(build("doge"))


def test_gains_are_the_blocks_own(doge):
    later = torch.ones(64, dtype=torch.float64)
    for block in reversed(doge.anatomy.blocks):
        first, second = block.module.input_residual.detach(), block.module.post_attention_residual.detach()
        for found, wanted in (
            (block.gains.stream, first * second),
            (block.gains.attention, second),
            (block.gains.mlps[0], torch.ones_like(later)),
            (block.gains.later, later),
        ):
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
        assert block.constant.abs().max() < 1e-12
        later = later * first * second


def test_a_constant_beside_gains():
    block = load(build("zaya")).anatomy.blocks[1]
    middle, end = block.module.post_attention_residual_scale, block.module.post_mlp_residual_scale
    zero, heads = torch.zeros(1, 1, 64, dtype=torch.float64), torch.zeros(1, 1, 64, dtype=torch.float64)
    wanted = end(zero, middle(heads, zero)).flatten()
    torch.testing.assert_close(block.constant, wanted.detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("part", ["stream", "attention", "later"])
def test_gains_that_are_forgotten_are_seen(doge, part):
    block = doge.anatomy.blocks[0]
    changed = replace(block, gains=replace(block.gains, **{part: torch.ones(64, dtype=torch.float64)}))
    model = replace(doge, anatomy=replace(doge.anatomy, blocks=(changed, *doge.anatomy.blocks[1:])))
    if part == "later":  # no block shows it by itself: the ledger does not close
        tokens, donors = texts()
        with model.running():
            clean = clean_run(model, tokens)
            outputs = port_outputs(model, donors, ports_of(each([Head(0, 1)])))
            (ledger,) = ReplayEngine(fold=1).sweep(model, clean, each([Head(0, 1)]), outputs.__getitem__, True)
        assert ledger.residual.abs().max() > 1e-3
        return
    with pytest.raises(RefusedModel) as refusal:
        prove_at_load(model)
    assert refusal.value.identity == "residual sum"


def test_everything_that_can_be_replaced(doge):
    """Effects of an MLP against plain forwards; the rest against the reference engine, whose ledgers close."""
    vector = tuple((torch.arange(64) % 5 - 2.0).tolist())
    chosen = each([Mlp(1), Head(0, 2), Neuron(0, 3), Neuron(2, 5), Direction(1, "wave", vector)])
    tokens, donors = texts()
    (wanted,) = effects(doge.network, [Part(doge.anatomy.blocks[1].mlp_write)])
    with doge.running():
        clean = clean_run(doge, tokens, ports=ports_of(chosen))
        outputs = port_outputs(doge, donors, ports_of(chosen))
        found = {}
        for engine in (ReferenceEngine(), ReplayEngine(fold=2), DeltaEngine()):
            for ledger in engine.sweep(doge, clean, chosen, outputs.__getitem__, True):
                assert ledger.residual.abs().max() < 1e-9, engine.name
                for row, run in enumerate(ledger.interventions):
                    found[engine.name, run.name] = ledger, row
    for name in ("reference", "replay", "delta"):
        ledger, row = found[name, "L1.mlp"]
        assert (ledger.total_effect[row] - wanted).abs().max() < 1e-9
        for run in chosen:
            (ledger, row), (truth, at) = found[name, run.name], found["reference", run.name]
            for line in ("total_effect", "direct_effect", "ablated_direct_effect", "by_head", "by_mlp"):
                assert (getattr(ledger, line)[row] - getattr(truth, line)[at]).abs().max() < 1e-9, (
                    name,
                    run.name,
                    line,
                )


def test_what_knows_no_gains_refuses(doge):
    with pytest.raises(SelfRepairError, match="each dimension"):
        require_usual_layers(doge.anatomy, "questions on prompts")
    assert "by dimension" in _parts(doge)
