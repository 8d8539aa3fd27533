"""What lies around the blocks: several streams, leaves that are called with shapes, constants before the unembedding,
unembeddings smaller than the embedding."""

import copy

import numpy as np
import pytest
import torch
import transformers as hf
from torch import nn

from model.plain_effects import largest_error, llama
from selfrepair import RefusedModel, SelfRepairError, load, measure, prove
from selfrepair.engine import DeltaEngine, ReplayEngine
from selfrepair.model.dissect import known_tokens, longest, probe_tokens
from selfrepair.model.scales import rounded
from selfrepair.run.planning.batch_size import require_known_tokens, tokens_of
from support import corpus
from zoo import families

SIZES = {
    "vocab_size": 97, "d_model": 40, "decoder_layers": 3, "decoder_attention_heads": 4, "decoder_ffn_dim": 52,
    "encoder_layers": 1, "encoder_attention_heads": 4, "encoder_ffn_dim": 52, "max_position_embeddings": 32,
}  # fmt: skip


def widened(network, streams: int, axis: int):
    """A Llama whose blocks carry several streams, of which the last is read from (hyper-connections, AltUp)."""
    for number, layer in enumerate(network.model.layers):
        inner = type(layer).forward
        last = number == len(network.model.layers) - 1

        class Widened(type(layer)):
            def forward(self, hidden, *args, inner=inner, first=not number, last=last, **kwargs):
                every = torch.stack([hidden] * streams, axis) if first else hidden
                every = torch.stack([inner(self, stream, *args, **kwargs) for stream in every.unbind(axis)], axis)
                return every.select(axis, -1) if last else every

        layer.__class__ = Widened
    return network


def with_prompt(network):
    """A Llama that puts two positions of its own before the text (CPM-Ant)."""

    class Prompted(type(network.model)):
        def forward(self, input_ids=None, **kwargs):
            front = torch.zeros_like(input_ids[:, :1]).expand(-1, 2)
            output = super().forward(torch.cat([front, input_ids], 1), **kwargs)
            output.last_hidden_state = output.last_hidden_state[:, 2:]
            return output

    network.model.__class__ = Prompted
    return network


SEVERAL = {
    "hyper-connections": (lambda: widened(llama(), 4, 2), "(1, 6, 4, 40)"),
    "AltUp": (lambda: widened(llama(), 3, 0), "(3, 1, 6, 40)"),
    "a prompt of its own": (lambda: with_prompt(llama()), "(1, 8, 40)"),
}


@pytest.mark.parametrize("what", SEVERAL)
def test_several_streams_are_refused_by_their_shape(what):
    make, shape = SEVERAL[what]
    with pytest.raises(RefusedModel, match="one residual stream") as refused:
        load(make())
    assert shape in str(refused.value) and "Several residual streams" in refused.value.fix


@pytest.mark.parametrize(
    "family", [(hf.PegasusForCausalLM, hf.PegasusConfig), (hf.BlenderbotForCausalLM, hf.BlenderbotConfig)]
)
@pytest.mark.parametrize("engine", [ReplayEngine(fold=2), DeltaEngine()])
def test_position_embeddings_that_are_called_with_a_shape(family, engine):
    kind, configuration = family
    network = families.randomise(kind(configuration(**SIZES)).eval(), kind.__name__)
    assert largest_error(load(network), engine, network) < 1e-5


def scaled_before_the_unembedding(factor: float):
    """As MiniCPM 3 does: hidden / (hidden_size / dim_model_base)."""
    network = llama()
    head = network.lm_head

    class Model(type(network)):
        def forward(self, input_ids, use_cache=None):
            hidden = self.model(input_ids, use_cache=use_cache).last_hidden_state
            return hf.modeling_outputs.CausalLMOutputWithPast(logits=self.lm_head(hidden * factor))

    network.__class__ = Model
    biased = nn.Linear(head.in_features, head.out_features)
    biased.weight.data = head.weight.data
    biased.bias.data = torch.randn(head.out_features, generator=torch.Generator().manual_seed(2))
    network.lm_head = biased
    return network


@pytest.mark.parametrize("factor", [0.1, 1 / 9, 0.25298221281347033, 3.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_constant_between_the_final_norm_and_the_unembedding(factor, dtype):
    network = scaled_before_the_unembedding(factor).to(getattr(torch, dtype))
    loaded = load(network)
    assert loaded.anatomy.unembedding.multiplier == pytest.approx(factor, rel=1e-6 if dtype == "float32" else 1e-12)
    assert all(proof.holds for proof in prove(loaded))
    assert largest_error(loaded, ReplayEngine(fold=2), network) < (1e-5 if dtype == "float32" else 1e-10)


@pytest.mark.parametrize("multiplier", [0.8082903768654761, 1.4 / 62**0.5, 0.22])
def test_residual_multipliers_of_many_digits_hold_in_float64(multiplier):
    network = copy.deepcopy(families.build("granite"))
    for layer in network.model.layers:
        layer.residual_multiplier = multiplier
    loaded = load(network.double())
    for block in loaded.anatomy.blocks:
        assert block.attention_multiplier == pytest.approx(multiplier, rel=1e-11)
    assert largest_error(loaded, ReplayEngine(fold=2), network) < 1e-10


@pytest.mark.parametrize(
    ("found", "tolerance", "is_"),
    [
        (0.25 * (1 + 1e-9), 1e-6, 0.25),
        ((1 / 12) * (1 - 1e-8), 1e-6, 1 / 12),
        (0.25298221281347033, 1e-11, 0.25298221281347033),
        (0.25 * (1 + 1e-9), 1e-11, 0.25 * (1 + 1e-9)),
        (-1.0000000000001, 1e-11, -1.0),
        (0.0, 1e-6, 0.0),
    ],
)
def test_rounding_of_constants(found, tolerance, is_):
    assert rounded(found, tolerance) == is_


def with_unembedding(rows: int):
    network = llama()
    network.lm_head = nn.Linear(40, rows, bias=False)
    draws = torch.Generator().manual_seed(1)
    network.lm_head.weight.data = torch.randn(rows, 40, generator=draws) / 40**0.5
    return network


@pytest.mark.parametrize(("rows", "known"), [(90, 90), (97, 97), (110, 97)])
def test_probe_ids_are_ones_that_the_model_reads_and_predicts(rows, known):
    network = with_unembedding(rows)
    assert known_tokens(network) == known
    assert int(probe_tokens(network, 32, windows=200).max()) == known - 1
    assert all(proof.holds for proof in prove(load(network)))


def test_ids_that_are_read_but_never_predicted_are_refused():
    model, text = load(with_unembedding(90)), corpus()
    beyond = int(text.tokens[:, 1:].max())
    assert 90 <= beyond < 97
    message = f"token id {beyond}, which the model reads but never predicts: its embedding ends at 96, its unembedding"
    with pytest.raises(SelfRepairError, match=message):
        measure(model, text, ablation="mean", progress=False)
    with pytest.raises(SelfRepairError, match="never predicts"):
        tokens_of(text, np.arange(len(text)), model)
    first = np.full((1, 5), 3)
    first[0, 0] = 95
    require_known_tokens(first, model)  # nothing predicts a window's first token
    with pytest.raises(SelfRepairError, match="vocabulary ends at 96"):
        require_known_tokens(np.array([[97, 3, 3]]), model)


@pytest.mark.parametrize(("said", "most"), [(4, 4), (64, 12), (-1, 12), (0, 12), (None, 12)])
def test_the_longest_window_that_is_probed(said, most):
    """XLNet writes -1 for no limit."""
    network = llama()
    network.config.__dict__["max_position_embeddings"] = said
    assert longest(network, 12) == most
