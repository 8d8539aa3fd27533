"""Directions of the stream as sites, on every engine and family, against plain forwards with hooks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_interventions import (
    ALL,
    ENGINES,
    LAYERS,
    POSITIONS,
    RELAXED,
    Measured,
    every_engine,
    every_family,
    mask,
    mixed,
    patches,
    sites,
)

from selfrepair import Direction, ReplayEngine, load
from selfrepair.ablation.interventions import Intervention, each, freezing, ports_of
from selfrepair.ablation.operators import Mean, Zero
from selfrepair.ablation.sites import At, Attention, Head, Mlp
from selfrepair.engine.clean import clean_run, port_outputs
from selfrepair.engine.direct_outputs import direct_outputs
from support import DONORS, TOKENS, language_model
from zoo import families, interventions
from zoo.anatomy import ANATOMY, value_constants

ONCE = settings(RELAXED, max_examples=1)  # of four runs, other ones for every family


def width(name: str) -> int:
    return language_model(name).anatomy.width


def vector(name: str, seed: int) -> np.ndarray:
    """Not of length 1: sites take any."""
    return np.random.default_rng(seed).normal(size=width(name))


def hooks(measured: Measured, intervention: Intervention, name: str) -> interventions.Patches:
    """Hooks of all sites, the direction's by a matrix that is made here from its vector."""
    (first, *others) = intervention.replaced
    found = patches(measured, Intervention(tuple(others), intervention.frozen, "others"), name)
    bare, network = first.site if isinstance(first, At) else first, measured.model.network
    unit = torch.tensor(bare.vector, dtype=torch.float64)
    streams = []  # what donors hold, from the network's own block

    def keep(_module, _args, out):
        streams.append((out[0] if isinstance(out, tuple) else out).reshape(*DONORS.shape, -1).clone())

    handle = ANATOMY[name].block(network, first.port.layer).register_forward_hook(keep)
    interventions.trace(network, ANATOMY[name], DONORS, interventions.Patches())
    handle.remove()
    positions = mask([first], first.port, 1)[:, 0]
    found.directions[first.port.layer] = (unit, positions, streams[0] @ unit)
    return found


def gaps(measured: Measured, name: str, ledger, row: int) -> dict[str, float]:
    """How far a ledger is from the oracle's, line by line."""
    intervention = ledger.interventions[row]
    truth = measured.truth(intervention, name, hooks)
    heads, mlps, lost = truth.heads.clone(), truth.mlps.clone(), torch.zeros_like(truth.total_effect)
    for port in ports_of([intervention]):
        put = mask(intervention.replaced, port, measured.clean.outputs_at(port).shape[2])[:-1]
        donor = measured.clean.direct_effects_at(port, measured.donors[port])
        own = ((donor - measured.clean.direct_effects_at(port)) * put).sum(-1)
        lost += own
        if port.kind == "heads":
            heads[port.layer][put.T[:, None].expand(heads[port.layer].shape)] = 0
        elif port.kind != "stream":
            mlps[port.layer] -= own
    found = {
        "total_effect": ledger.total_effect[row] - truth.total_effect,
        "lost": ledger.ablated_direct_effect[row] - ledger.direct_effect[row] - lost,
        "by_head": ledger.by_head[row].movedim((-2, -1), (0, 1)) - heads,
        "by_attention": ledger.by_attention[row].movedim(-1, 0) - heads.sum(1),
        "by_mlp": ledger.by_mlp[row].movedim(-1, 0) - mlps,
        "post_norms": ledger.post_norms[row] - truth.post_norms,
        "norm": ledger.norm[row] - truth.norm,
        "residual": ledger.residual[row],
    }
    return {line: float(gap.abs().max()) for line, gap in found.items()}


def starting_with_a_direction(name: str):
    """A direction, alone or at some positions, with more replaced above and anything but directions frozen."""
    where = st.none() | st.lists(st.integers(-2, POSITIONS - 1), min_size=1, max_size=3).map(tuple)
    some = st.lists(sites(name not in families.MIXTURES), max_size=3).map(tuple)

    def made(layer, seed, positions, above, frozen) -> Intervention:
        direction = Direction(layer, f"v{seed}", vector(name, seed))
        rest = mixed(tuple(site for site in above if site.port.layer > layer), frozen)
        site = direction if positions is None else At(direction, positions)
        return Intervention((site, *rest.replaced), rest.frozen, "drawn")

    one = st.builds(made, st.integers(0, LAYERS - 1), st.integers(0, 9), where, some, some)
    return st.lists(one, min_size=4, max_size=4)


@every_family
@ONCE
@given(data=st.data())
def test_runs_that_start_with_a_direction_equal_plain_forwards(name, data):
    measured = Measured(name, data.draw(starting_with_a_direction(name)))
    for engine in ENGINES.values():
        for ledger, row in measured.ledgers(engine):
            found = gaps(measured, name, ledger, row)
            assert max(found.values()) < 1e-9, (engine.name, ledger.interventions[row], found)
            places = ledger.interventions[row].replaced[0].positions or (0,)
            if any(place % POSITIONS < POSITIONS - 1 for place in places):  # the last one predicts nothing
                assert ledger.total_effect[row].abs().max() > 1e-6


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox_parallel", "gemma2"])
@every_engine
def test_beside_other_runs_each_keeps_its_own_direction(name, engine):
    """Runs of one layer and batch: two directions, one of them at some positions, a head and an MLP."""
    first, second = (Direction(1, f"v{seed}", vector(name, seed)) for seed in (0, 1))
    chosen = each([first, Head(1, 1), At(second, (2, -1)), Mlp(1)])
    together, alone = Measured(name, chosen), [Measured(name, [one]) for one in chosen]
    for (ledger, row), one in zip(together.ledgers(ENGINES[engine]), alone, strict=True):
        ((single, other),) = one.ledgers(ENGINES["reference"])
        for line in ("total_effect", "direct_effect", "ablated_direct_effect", "by_head", "by_mlp", "norm"):
            assert (getattr(ledger, line)[row] - getattr(single, line)[other]).abs().max() < 1e-9, line


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox_parallel", "gemma2"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@every_engine
def test_a_direction_as_it_was_changes_nothing_bit_for_bit(name, engine, dtype):
    direction = Direction(1, "v", vector(name, 3))
    chosen = [*each([direction, At(direction, (1, 4))]), Intervention((direction, Head(2, 1)), (Mlp(2),), "more")]
    measured = Measured(name, chosen, dtype=dtype)
    exact = ReplayEngine(fold=1) if engine == "replay" else ENGINES[engine]
    for ledger, row in measured.ledgers(exact, measured.clean.outputs_at):
        assert (ledger.direct_effect[row] != 0).any()
        for line in ("total_effect", "self_repair", "by_head", "by_attention", "by_mlp", "post_norms", "norm"):
            assert (getattr(ledger, line)[row] == 0).all(), (ledger.interventions[row], line)


@every_family
def test_with_everything_above_frozen_only_the_norm_repairs(name):
    direction = Direction(1, "v", vector(name, 4))
    alone = Intervention((direction,))
    measured = Measured(name, [freezing(alone, [site for site in ALL if site.port.layer > 1]), alone])
    for engine in ENGINES.values():
        (ledger, row), (free, other) = measured.ledgers(engine)
        assert (ledger.by_attention[row] == 0).all() and (ledger.by_mlp[row] == 0).all()
        lost = ledger.direct_effect[row] - ledger.ablated_direct_effect[row]
        closing = ledger.total_effect[row] + lost - ledger.norm[row] - ledger.post_norms[row]
        assert closing.abs().max() < 1e-10 and lost.abs().max() > 1e-3
        assert (free.total_effect[other] - ledger.total_effect[row]).abs().max() > 1e-3  # they did repair something
        if ANATOMY[name].post_attention_norm is None:
            assert (ledger.post_norms[row] == 0).all()


def with_a_head_that_writes_along(unit: torch.Tensor, layer: int, head: int):
    """A llama in which one head alone writes along a vector, and nothing reads it before the next block."""
    network = families.build("llama").double()
    away = torch.eye(len(unit), dtype=torch.float64) - torch.outer(unit, unit)
    with torch.no_grad():
        network.model.embed_tokens.weight.copy_(network.model.embed_tokens.weight @ away)
        for number, block in enumerate(network.model.layers):
            if number <= layer:
                block.self_attn.o_proj.weight.copy_(away @ block.self_attn.o_proj.weight)
                block.mlp.down_proj.weight.copy_(away @ block.mlp.down_proj.weight)
        own, size = network.model.layers[layer], network.model.layers[layer].self_attn.head_dim
        reads = torch.linspace(-1, 2, size, dtype=torch.float64)
        own.self_attn.o_proj.weight[:, head * size : (head + 1) * size] = torch.outer(unit, reads)
        own.mlp.down_proj.weight.zero_()  # the MLP of its layer would respond to the head, but not to the direction
    return load(network)


@every_engine
@pytest.mark.parametrize("how", ["donor", "zero", "mean"])
def test_a_direction_that_one_head_alone_writes_has_the_heads_row(engine, how):
    layer, head, name = 1, 2, "llama"
    direction = Direction(layer, "of-the-head", vector(name, 5))
    model = with_a_head_that_writes_along(torch.tensor(direction.vector, dtype=torch.float64), layer, head)
    chosen = each([direction, Head(layer, head)])
    with model.running():
        clean = clean_run(model, TOKENS, ports=ports_of(chosen))
        donors = port_outputs(model, DONORS, ports_of(chosen))
        given = {
            "donor": donors.__getitem__,
            "zero": lambda port: Zero().replacement(port, clean.outputs_at(port), None, 0),
            "mean": lambda port: clean.outputs_at(port).mean((0, 1)).expand_as(clean.outputs_at(port)),
        }[how]
        ledgers = list(ENGINES[engine].sweep(model, clean, chosen, given, True))
    rows = {one.name: (ledger, row) for ledger in ledgers for row, one in enumerate(ledger.interventions)}
    (own, row), (of_head, other) = (rows[one.name] for one in chosen)
    assert own.total_effect[row].abs().max() > 1e-3
    lines = ("direct_effect", "ablated_direct_effect", "total_effect", "self_repair")
    for line in (*lines, "by_head", "by_attention", "by_mlp", "post_norms", "norm", "sigma_ratio"):
        assert (getattr(own, line)[row] - getattr(of_head, line)[other]).abs().max() < 1e-9, line


@pytest.mark.parametrize("operator", [Mean(), Zero()])
def test_operators_leave_the_mean_or_nothing_along_the_direction(operator):
    """r - (r - m) . d d with m the mean of r . d, or 0; after the last block, so that the final stream tells."""
    model = language_model("gpt2")
    direction = Direction(LAYERS - 1, "v", vector("gpt2", 6))
    unit = torch.tensor(direction.vector, dtype=torch.float64)

    class Means:
        def mean(self, port):
            return clean.outputs_at(port).mean((0, 1))

    with model.running():
        clean = clean_run(model, TOKENS, ports=[direction.port])
        put = operator.replacement(direction.port, clean.outputs_at(direction.port), Means(), 0)
        (ledger,) = ReplayEngine(fold=1).sweep(model, clean, each([direction]), lambda _port: put, False)
    held = clean.final @ unit
    left = held.mean() if operator.name == "mean" else 0.0
    final = (clean.final - (held - left)[..., None] * unit)[:, :-1]
    effect = (clean.u * final).sum(-1) / model.anatomy.final_norm.scale(final) - clean.scaled_logit
    assert effect.abs().max() > 1e-3
    assert (ledger.total_effect[0] - effect).abs().max() < 1e-9


def test_direct_edges_start_at_a_direction():
    """What the next block reads where nothing but the direction has changed is what it reads in the ablated run."""
    name, direction = "gpt2", Direction(1, "v", vector("gpt2", 7))
    measured = Measured(name, each([direction]))
    network, heads = measured.model.network, Attention(2).port
    downstream = [Mlp(layer).port for layer in range(LAYERS)]
    with measured.model.running():
        clean = clean_run(measured.model, TOKENS, ports=[direction.port, *downstream])
        found = direct_outputs(measured.model, clean, measured.chosen[0], measured.donors.__getitem__, [heads])
    run = interventions.trace(network, ANATOMY[name], TOKENS, hooks(measured, measured.chosen[0], name))
    assert (found[heads] - (run.z[2] - value_constants(network, ANATOMY[name])[2])).abs().max() < 1e-9
    assert (found[heads] - clean.outputs_at(heads)).abs().max() > 1e-3
