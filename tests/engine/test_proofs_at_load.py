"""What is proved of ablated runs before any number is computed: at load, and of the delta engine before it is used."""

from __future__ import annotations

import pytest
import torch

from selfrepair import DeltaEngine, RefusedModel, load, measure, prove
from selfrepair.engine.delta.rules import rule_table
from selfrepair.engine.delta.rules.secant import secant
from support import corpus, fresh_model
from zoo import families


def reads_ahead():
    """Llama whose last MLP also adds what it puts out at the next position."""
    network = families.build("llama").double()

    def look_ahead(_module, _args, output):
        ahead = torch.zeros_like(output)
        ahead[:, :-1] = output[:, 1:]
        return output + ahead

    network.model.layers[-1].mlp.register_forward_hook(look_ahead)
    return network


def test_a_model_to_which_later_tokens_matter_is_refused_at_load():
    with pytest.raises(RefusedModel) as refusal:
        load(reads_ahead())
    assert refusal.value.identity == "causality"


def remembers_the_lowest_block():
    """Llama whose last block adds what the first block's MLP has just put out, which no replay from there knows."""
    network = families.build("llama").double()
    first, last = network.model.layers[0], network.model.layers[-1]
    kept = {}

    def keep(_module, _args, output):
        kept[output.shape] = output

    def add(_module, args, output):
        earlier = kept.get(output.shape)
        return output if earlier is None else output + earlier

    first.mlp.register_forward_hook(keep)
    last.mlp.register_forward_hook(add)
    return network


def test_a_model_whose_blocks_hand_something_on_beside_the_stream_is_run_by_its_trunk():
    network = remembers_the_lowest_block()
    model = load(network)
    assert not model.anatomy.alone and all(proof.holds for proof in prove(model))


@pytest.mark.parametrize("engine", ["delta", DeltaEngine()])
def test_a_forced_delta_engine_is_tried_before_it_is_used(engine, monkeypatch):
    model = fresh_model("llama")

    def wrong(call):
        return tuple(1.01 * change for change in secant(call))

    monkeypatch.setitem(rule_table.RULES, "silu", wrong)
    with pytest.raises(RefusedModel, match="differences"):
        measure(model, corpus(), heads="L1H1", engine=engine, progress=False)
