"""What blocks add beside all of their modules, and what they hand on beside the stream."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from census.forwards import logits, plainly, texts
from census.small import build
from selfrepair import Head, RefusedModel, ReplayEngine, clean_run, each, load, port_outputs
from selfrepair.ablation.interventions import ports_of
from selfrepair.model.proofs import prove_at_load


def test_a_vector_that_no_module_puts_out_is_found():
    network = build("gpt_neox_japanese")
    blocks = load(network).anatomy.blocks
    assert [block.constant is None for block in blocks] == [True, True, False]
    bias = network.gpt_neox_japanese.layers[2].attention.dense_bias
    torch.testing.assert_close(blocks[2].constant, bias.detach(), rtol=0, atol=1e-12)


def test_a_vector_that_is_forgotten_is_refused():
    model = load(build("gpt_neox_japanese"))
    blocks = (*model.anatomy.blocks[:2], replace(model.anatomy.blocks[2], constant=None))
    with pytest.raises(RefusedModel) as refusal:
        prove_at_load(replace(model, anatomy=replace(model.anatomy, blocks=blocks)))
    assert refusal.value.identity == "residual sum"


def test_what_differs_between_positions_is_no_constant():
    """A block that adds something by position, which no module puts out, stays refused."""
    network = build("llama")
    layer = network.model.layers[1]
    inner = type(layer).forward

    class ByPosition(type(layer)):
        def forward(self, hidden_states, **kwargs):
            positions = torch.arange(hidden_states.shape[1], dtype=hidden_states.dtype)[:, None]
            return inner(self, hidden_states, **kwargs) + 0.1 * positions

    layer.__class__ = ByPosition
    with pytest.raises(RefusedModel) as refusal:
        load(network)
    assert refusal.value.identity == "residual sum"


@pytest.fixture(scope="module")
def sharing():
    """Gemma 4 whose last two layers attend to keys and values of the two below."""
    return load(build("gemma4_text@E2B"))


def test_layers_that_share_keys_have_their_heads(sharing):
    assert not sharing.anatomy.alone
    assert [block.heads for block in sharing.anatomy.blocks] == [4] * 4
    assert all(block.plain_means for block in sharing.anatomy.blocks)


def test_shared_keys_are_those_of_the_ablated_run(sharing):
    """Replay's effect is that of the model's own forward; with keys and values held at those of the clean run, it is
    another."""
    head, (tokens, donors) = Head(0, 1), texts()
    network, block = sharing.network, sharing.anatomy.blocks[0]
    with sharing.running():
        clean = clean_run(sharing, tokens)
        outputs = port_outputs(sharing, donors, ports_of(each([head])))
        (ledger,) = ReplayEngine(fold=1).sweep(sharing, clean, each([head]), outputs.__getitem__, False)

    def target():
        values = logits(network, tokens)[:, :-1]
        return (values - values.mean(-1, keepdim=True)).gather(-1, tokens[:, 1:, None])[..., 0]

    kept = {}

    def keep(module, _args, kwargs):
        kept[module] = dict(kwargs["shared_kv_states"])

    def hold(module, args, kwargs):
        return args, kwargs | {"shared_kv_states": kept[module]}

    def ablate(_module, args):
        value = args[0].clone()
        value[..., 24:48] = outputs[head.port][..., 1, :]
        return (value,)

    readers = [sharing.anatomy.blocks[layer].module.self_attn for layer in (2, 3)]
    with plainly():
        handles = [reader.register_forward_pre_hook(keep, with_kwargs=True) for reader in readers]
        before = target()
        for handle in handles:
            handle.remove()
        handle = block.projection.register_forward_pre_hook(ablate)
        wanted = target() - before
        for reader in readers:
            reader.register_forward_pre_hook(hold, with_kwargs=True)
        held = target() - before
        handle.remove()
    for reader in readers:
        reader._forward_pre_hooks.clear()
        reader._forward_pre_hooks_with_kwargs.clear()
    assert (ledger.total_effect[0] - wanted).abs().max() < 1e-9
    assert (held - wanted).abs().max() > 1e-2
