"""The operation count, against torch's own counter and by hand."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from race.shapes import SHAPES, Weights, build, random_network
from race.task import Order, spread
from race.work import ablated_block_operations, block_operations, sweep_operations

WINDOWS, LENGTH = 2, 16


def blocks(network):
    return next(module for module in network.modules() if isinstance(module, torch.nn.ModuleList))


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_of_a_block_are_those_of_the_hugging_face_model(name):
    shape = SHAPES[name]
    with torch.device("meta"):
        network = build(shape, 128)
    layers = blocks(network)
    assert len(layers) == shape.layers
    matrices = [p.numel() for p in layers[0].parameters() if p.dim() == 2]
    assert sum(matrices) == shape.attention_parameters + shape.mlp_parameters
    assert network.get_output_embeddings().weight.shape == (shape.vocabulary, shape.width)


def test_a_block_costs_what_torch_counts_less_the_masked_scores():
    shape = SHAPES["tiny"]
    network = random_network(shape, LENGTH, Weights.plain, 0)
    network.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        network.transformer(torch.zeros(WINDOWS, LENGTH, dtype=torch.long))
    tokens = WINDOWS * LENGTH
    masked = 4 * tokens * (LENGTH - (LENGTH + 1) / 2) * shape.heads * shape.head_dim
    assert counter.get_total_flops() == shape.layers * (block_operations(shape, WINDOWS, LENGTH) + masked)


def test_gpt2_small_by_hand():
    shape, tokens = SHAPES["gpt2-small"], 512
    whole = 2 * tokens * 12 * 768**2 + 4 * tokens * 64.5 * 768
    ablated = 2 * tokens * (64 * 768 + 8 * 768**2)
    layers = [unit.layer for unit in Order("gpt2-small").units()]
    assert sweep_operations(shape, layers, 4, 128) == 144 * ablated + 12 * 66 * whole


def test_a_parallel_blocks_mlp_sees_no_ablation():
    shape = SHAPES["pythia-160m"]
    assert ablated_block_operations(shape, 1, 10) == 2 * 10 * 64 * 768


def test_heads_are_spread_over_layers_and_head_numbers():
    units = Order("gpt2-small").units()
    some = spread(units, 12)
    assert [unit.layer for unit in some] == list(range(12))
    assert spread(units, 1000) == units
    assert len(set(spread(units, 50))) == 50
    assert len({unit.head for unit in some}) > 6
