"""Discovered parts against the table written by hand from the modelling code."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import transformers as hf

from selfrepair import RefusedModel, SelfRepairError, load
from selfrepair.model.norms import Norm
from support import fresh_model, language_model, roomy
from zoo import families
from zoo.anatomy import ANATOMY, value_constants
from zoo.planted import PLANTED

every_family = pytest.mark.parametrize("name", families.FAMILIES)

EXPECTED_REFUSALS = {
    "opt_post_norm": "residual sum",
    "opt_no_final_norm": "final norm",
    "bloom_post_norm": "residual sum",
}


def parts(name):
    """The package's anatomy, the table's, and the network they are of."""
    model = language_model(name)
    return model.anatomy, ANATOMY[name], model.network


@every_family
def test_blocks_and_trunk(name):
    anatomy, hand, network = parts(name)
    assert [block.module for block in anatomy.blocks] == list(network.get_submodule(hand.blocks))
    assert anatomy.trunk is network.base_model
    assert (anatomy.layers, anatomy.heads, anatomy.width) == (families.LAYERS, hand.heads, families.WIDTH)


@every_family
def test_modules_that_write(name):
    anatomy, hand, network = parts(name)
    for layer, block in enumerate(anatomy.blocks):
        attention = "post_attention_norm" if hand.post_attention_norm else "o_proj"
        mlp = "post_mlp_norm" if hand.post_mlp_norm else "mlp"
        assert block.projection is hand.part(network, layer, "o_proj")
        assert block.attention_write is hand.part(network, layer, attention)
        assert block.mlp_write is hand.part(network, layer, mlp)
        assert block.attention_multiplier == pytest.approx(hand.residual_multiplier, abs=1e-12)
        assert block.mlp_multiplier == pytest.approx(hand.residual_multiplier, abs=1e-12)
        assert block.parallel == hand.parallel


@every_family
def test_heads_and_their_weights(name):
    anatomy, hand, network = parts(name)
    for layer, block in enumerate(anatomy.blocks):
        assert (block.heads, block.head_dim) == (hand.heads, hand.head_dim)
        for head in range(hand.heads):
            assert torch.equal(block.output_weight[head], hand.w_o(network, layer, head))


@every_family
def test_value_constants(name):
    anatomy, hand, network = parts(name)
    constants = torch.stack([block.value_constant for block in anatomy.blocks])
    assert (constants - value_constants(network, hand)).abs().max() < 1e-12


def assert_same_norm(norm: Norm, module, hand) -> None:
    assert norm.centred == (hand.norm == "layer")
    assert norm.eps == hand.eps(module)
    assert torch.equal(norm.gain, hand.gain(module, families.WIDTH))
    assert torch.equal(norm.bias, hand.norm_bias(module, families.WIDTH))
    x = torch.randn(5, families.WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert (norm(x) - hand.apply(module, x)).abs().max() < 1e-13
    assert (norm.scale(x) - hand.scale(module, x)).abs().max() < 1e-14


@every_family
def test_norms(name):
    anatomy, hand, network = parts(name)
    assert anatomy.final_norm_module is network.get_submodule(hand.final_norm)
    assert_same_norm(anatomy.final_norm, anatomy.final_norm_module, hand)
    assert anatomy.has_post_norms == (hand.post_attention_norm is not None)
    for layer, block in enumerate(anatomy.blocks):
        if hand.post_attention_norm is None:
            assert block.attention_norm is None
        else:
            assert_same_norm(block.attention_norm, hand.part(network, layer, "post_attention_norm"), hand)


@every_family
def test_readout(name):
    anatomy, hand, network = parts(name)
    head, unembedding = network.get_output_embeddings(), anatomy.unembedding
    assert torch.equal(unembedding.weight, head.weight)
    assert (unembedding.bias is None) == (head.bias is None)
    assert unembedding.bias is None or torch.equal(unembedding.bias, head.bias)
    assert unembedding.multiplier == pytest.approx(hand.logit_multiplier, rel=1e-12)
    assert unembedding.softcap == hand.soft_cap


@every_family
def test_single_precision_finds_the_same_parts(name):
    wide, narrow = language_model(name).anatomy, language_model(name, dtype="float32").anatomy
    for a, b in zip(wide.blocks, narrow.blocks, strict=True):
        assert (a.heads, a.head_dim, a.parallel) == (b.heads, b.head_dim, b.parallel)
        assert (a.attention_multiplier, a.mlp_multiplier) == (b.attention_multiplier, b.mlp_multiplier)
        assert (a.value_constant - b.value_constant).abs().max() < 1e-5
    assert wide.unembedding.multiplier == pytest.approx(narrow.unembedding.multiplier, rel=1e-12)
    assert (wide.final_norm.centred, wide.final_norm.eps) == (narrow.final_norm.centred, narrow.final_norm.eps)


@pytest.mark.parametrize("name", families.REFUSED)
@pytest.mark.parametrize("double", [True, False])
def test_what_cannot_be_measured_is_refused_by_name(name, double):
    network = families.REFUSED[name]()
    with pytest.raises(RefusedModel) as refusal:
        load(network.double() if double else network)
    assert refusal.value.identity == EXPECTED_REFUSALS[name]
    assert EXPECTED_REFUSALS[name] in str(refusal.value)


# ------------------------------------------------------------------------- weights that hide their structure


@pytest.mark.parametrize("name", PLANTED)
def test_hand_set_weights_hide_nothing(name):
    """Planted models are full of zeros, equal rows and norms that do nothing."""
    case = PLANTED[name]()
    anatomy = load(roomy(case.model)).anatomy
    for layer, block in enumerate(anatomy.blocks):
        assert block.projection is case.anatomy.part(case.model, layer, "o_proj")
        assert (block.heads, block.head_dim) == (case.anatomy.heads, case.anatomy.head_dim)
        assert not block.parallel
    constants = torch.stack([block.value_constant for block in anatomy.blocks])
    assert (constants - value_constants(case.model, case.anatomy)).abs().max() < 1e-12


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox_parallel", "olmo2"])
def test_dead_heads_and_dead_mlps_are_found_too(name):
    network = families.build(name).double()
    hand = ANATOMY[name]
    with torch.no_grad():
        hand.part(network, 1, "o_proj").weight.zero_()
        for value in hand.part(network, 2, "mlp").parameters():
            value.zero_()
    block = load(network).anatomy.blocks[1]
    assert block.projection is hand.part(network, 1, "o_proj") and block.heads == hand.heads


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox_parallel", "llama"])
def test_projections_that_are_equal_whichever_way_round(name):
    """A symmetric W_O gives no hint; the layout must still be right."""
    network = families.build(name).double()
    with torch.no_grad():
        weight = ANATOMY[name].part(network, 0, "o_proj").weight
        weight.copy_(weight + weight.T)
    block = load(network).anatomy.blocks[0]
    assert torch.equal(block.output_weight.flatten(0, 1), ANATOMY[name].part(network, 0, "o_proj").weight)


@dataclass(frozen=True)
class Odd:
    """A shape that rules of thumb get wrong."""

    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    width: int = 40
    head_dim: int = 10


@pytest.mark.parametrize(
    "odd",
    [
        Odd(layers=1),
        Odd(heads=1, kv_heads=1),
        Odd(heads=8, kv_heads=1, head_dim=4),
        Odd(heads=10, kv_heads=10, head_dim=2),
        Odd(heads=4, kv_heads=2, head_dim=14),
        Odd(heads=5, kv_heads=5, head_dim=8),
    ],
    ids=str,
)
def test_odd_shapes(odd):
    config = hf.LlamaConfig(
        vocab_size=50,
        hidden_size=odd.width,
        intermediate_size=24,
        num_hidden_layers=odd.layers,
        num_attention_heads=odd.heads,
        num_key_value_heads=odd.kv_heads,
        head_dim=odd.head_dim,
    )
    anatomy = load(families.randomise(hf.LlamaForCausalLM(config), "odd").double().eval()).anatomy
    assert anatomy.layers == odd.layers
    assert all((b.heads, b.head_dim) == (odd.heads, odd.head_dim) for b in anatomy.blocks)


def test_short_position_tables():
    assert load(PLANTED["backup"]().model).anatomy.layers == 2


# ---------------------------------------------------------------------------------------------- bad weights


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value):
    network = families.build("llama")
    with torch.no_grad():
        network.model.layers[1].mlp.up_proj.weight[3, 5] = value
    with pytest.raises(SelfRepairError, match=r"layers\.1\.mlp\.up_proj\.weight.*not finite"):
        load(network)


def test_finite_weights_whose_logits_overflow_are_refused():
    network = families.build("gpt2_wide")
    with torch.no_grad():
        network.lm_head.weight.mul_(1e38)
    with pytest.raises(SelfRepairError):
        load(network)


def test_a_model_without_unembedding_is_refused():
    with pytest.raises(RefusedModel) as refusal:
        load(families.build("llama").model)
    assert refusal.value.identity == "read-out"


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "falcon_7b", "mixtral"])
def test_loading_leaves_the_network_as_it_was(name):
    model, again = fresh_model(name), families.build(name).double()
    for (path, ours), theirs in zip(model.network.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs), path
    for path, module in model.network.named_modules():
        assert not module._forward_hooks and not module._forward_pre_hooks, path
        assert "forward" not in vars(module), path
