"""Layers with fewer heads than others, as pruning leaves them: measured, and never counted as heads that are there."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaAttention

from model.plain_effects import largest_error, llama
from selfrepair import RefusedModel, SelfRepairError, compare, load, measure
from selfrepair.ablation.names import existing_heads, named_heads
from selfrepair.engine import DeltaEngine, ReferenceEngine, ReplayEngine
from selfrepair.model.head_count import miscounts
from selfrepair.model.proofs import prove_at_load
from selfrepair.report import captions
from selfrepair.report.page import run_facts, write_page
from support import corpus
from zoo import families

KEPT = slice(0, 20)  # the first two heads of ten


def built_with_fewer(layers):
    """Attention of its own configuration: so many heads by layer."""
    network = llama()
    for layer, heads in layers.items():
        config = copy.deepcopy(network.config)
        config.num_attention_heads, config.num_key_value_heads, config.head_dim = heads, 1, 10
        attention = LlamaAttention(config, layer).eval()
        for number, value in enumerate(attention.parameters()):
            draws = torch.Generator().manual_seed(number)
            value.data.copy_(torch.randn(value.shape, generator=draws) / value.shape[-1] ** 0.5)
        network.model.layers[layer].self_attn = attention
    return network


def cut_out_of_llama():
    """Rows of the projections cut out; nothing else knows of it but the width of a head."""
    network = llama()
    attention = network.model.layers[1].self_attn
    for name, rows in (("q_proj", KEPT), ("k_proj", slice(0, 10)), ("v_proj", slice(0, 10))):
        linear = getattr(attention, name)
        linear.weight.data = linear.weight.data[rows]
        if linear.bias is not None:
            linear.bias.data = linear.bias.data[rows]
    attention.o_proj.weight.data = attention.o_proj.weight.data[:, KEPT]
    return network


def cut_out_of_gpt2():
    """As Hugging Face's `prune_heads` left it: the attention module says how many heads it has."""
    network = copy.deepcopy(families.build("gpt2"))
    attention = network.transformer.h[1].attn
    columns = torch.cat([torch.arange(20) + start for start in (0, 40, 80)])
    attention.c_attn.weight.data, attention.c_attn.bias.data = (
        value.data[..., columns] for value in (attention.c_attn.weight, attention.c_attn.bias)
    )
    attention.c_attn.nf = 60
    attention.c_proj.weight.data = attention.c_proj.weight.data[KEPT]
    attention.num_heads, attention.split_size = 2, 20
    return network


MODELS = {
    "own configuration": lambda: built_with_fewer({1: 2, 2: 1}),
    "llama, rows cut out": cut_out_of_llama,
    "gpt2, pruned": cut_out_of_gpt2,
}


@pytest.mark.parametrize("what", MODELS)
@pytest.mark.parametrize("engine", [ReplayEngine(fold=3), DeltaEngine(), ReferenceEngine()])
def test_every_head_is_measured(what, engine):
    network = MODELS[what]()
    loaded = load(network)
    assert loaded.anatomy.heads_by_layer == ([4, 2, 1] if what == "own configuration" else [4, 2, 4])
    assert largest_error(loaded, engine, network) < 1e-5


@pytest.mark.parametrize("what", MODELS)
def test_a_wrong_count_in_a_layer_with_fewer_heads_is_refused(what):
    """As if two heads had been taken for one; heads' writes add up all the same."""
    loaded = load(MODELS[what]())
    block = loaded.anatomy.blocks[1]
    halved = replace(
        block,
        output_weight=block.output_weight.reshape(1, 20, -1),
        value_constant=block.value_constant.reshape(1, 20),
    )
    anatomy = replace(loaded.anatomy, blocks=(loaded.anatomy.blocks[0], halved, loaded.anatomy.blocks[2]))
    with pytest.raises(RefusedModel, match="head count"):
        prove_at_load(replace(loaded, anatomy=anatomy))


@pytest.mark.parametrize(("configured", "off"), [(4, [0, 0, 0]), ([4, 2, 1], [0, 0, 0]), (None, [0, 0, 0])])
def test_the_layer_is_heard_before_the_configuration(configured, off):
    assert miscounts(load(built_with_fewer({1: 2, 2: 1})).anatomy.blocks, configured) == off


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uneven") / "run"
    model = load(built_with_fewer({1: 2, 2: 1}))
    return measure(
        model, corpus(), ablation="mean", filters=["all", "top:0.2"], replicates=20, progress=False, out=folder
    )


def absent(values: np.ndarray) -> np.ndarray:
    """Values [..., layer, head] of the heads that layers lack."""
    return np.concatenate([values[..., 1, 2:], values[..., 2, 1:]], axis=-1)


def test_heads_that_a_layer_lacks_have_no_numbers(run):
    grid = [
        values
        for values in run.heads.values()
        if values.dims == ("filter", "layer", "head") and values.dtype.kind == "f"
    ]
    assert len(grid) > 40 and run.heads.sizes["head"] == 4
    for values in (array for array in grid if array.name != "effective_documents"):
        assert np.isnan(absent(values.values)).all(), values.name
    assert (absent(run.heads["count"].values) == 0).all()
    assert run.heads_there_are == 7 and run.plan["model"]["heads_by_layer"] == [4, 2, 1]


def test_numbers_of_layers_and_of_the_model_are_over_the_heads_there_are(run):
    lost, repair = (run.heads[name].sel(filter="all").values for name in ("lost_direct_effect", "self_repair"))
    for layer, heads in enumerate([4, 2, 1]):
        wanted = repair[layer, :heads].sum() / lost[layer, :heads].sum()
        assert run.heads["layer_repaired_fraction"].sel(filter="all").values[layer] == pytest.approx(wanted, rel=1e-6)
    wanted = np.nansum(repair) / np.nansum(lost)
    assert float(run.heads["pooled_repaired_fraction"].sel(filter="all")) == pytest.approx(wanted, rel=1e-6)


def test_what_is_said_counts_no_absent_heads(run, tmp_path):
    assert "heads have none" not in captions.amount(run, "all")
    assert not [limit for limit in run_facts.limits(run) if "nothing is known about the others" in limit]
    assert "--heads" not in run_facts.command(run)
    assert captions.discoveries(run, "all").count("of 7") + captions.discoveries(run, "all").count("more") >= 1
    table = run.table("all", top=None)
    assert sorted(table["name"]) == ["L0H0", "L0H1", "L0H2", "L0H3", "L1H0", "L1H1", "L2H0"]
    write_page([run], tmp_path / "report.html")


def test_heads_by_name_follow_the_layers():
    assert existing_heads(named_heads("L1,L2H0"), [4, 2, 1]) == [(1, 0), (1, 1), (2, 0)]
    for name in ("L1H2", "L3"):
        with pytest.raises(SelfRepairError) as refused:
            existing_heads(named_heads(name), [4, 2, 1])
        assert "There are no heads L" in str(refused.value) and "in order they have 4, 2, 1" in str(refused.value)
    with pytest.raises(SelfRepairError, match="There are no heads L2H1"):
        measure(load(built_with_fewer({1: 2, 2: 1})), corpus(), heads=[(2, 1)], progress=False)


def test_runs_compare_with_themselves(run):
    from_itself = compare(run.kept.path.parent, run.kept.path.parent, filter="all")
    values = from_itself.heads.value
    assert np.isnan(absent(values)).all() and np.nansum(np.abs(values)) == 0
