"""A vector added at one position at a time: all positions in one pass, against a plain forward for each."""

import pytest
import torch

from selfrepair.engine.clean import clean_run
from selfrepair.model.taps import on_input, removing
from selfrepair.paper.experiments.self_gain import all_positions
from selfrepair.paper.experiments.self_gain.add_vector import Adder, adder_for
from support import TOKENS, language_model
from zoo import families

REGISTERED = ("gpt2", "gpt2_wide", "gpt_neox_parallel", "opt", "llama", "mistral", "qwen3", "phi3", "olmo2", "gemma2")
OTHERS = ("gpt_neo", "gptj", "bloom", "falcon_7b")
LAYER = 1


def plain(model, tokens, layer, vectors):
    """Whole forwards, one for every position: head outputs at that position and the final norm's scale there."""
    block, norm = model.anatomy.blocks[layer], model.anatomy.final_norm
    outputs, scales = [], []
    for position in range(tokens.shape[1]):
        seen = {}

        def change(hidden, position=position):
            hidden = hidden.clone()
            hidden[:, position] += vectors[:, position]
            return hidden

        def keep(value, seen=seen):
            seen["heads"] = value.reshape(*tokens.shape, -1).clone()

        def last(value, seen=seen):
            seen["final"] = value.clone()

        handles = (
            on_input(block.module, change),
            on_input(block.projection, keep),
            on_input(model.anatomy.final_norm_module, last),
        )
        with removing(*handles):
            model.run_trunk(tokens)
        outputs.append(block.heads_place.split(seen["heads"])[:, position])
        scales.append(norm.scale(seen["final"])[:, position])
    return torch.stack(outputs, 1), torch.stack(scales, 1)


def case(name):
    model = language_model(name)
    with model.running():
        clean = clean_run(model, TOKENS)
        draws = torch.Generator().manual_seed(3)
        vectors = torch.randn(2, *clean.residuals[LAYER].shape, generator=draws).double()
        wanted = [plain(model, TOKENS, LAYER, vector) for vector in vectors]
    return model, clean, vectors, wanted


def error(model, adder, clean, vectors, wanted):
    with model.running():
        added = adder.add(clean, LAYER, vectors, to_the_end=True)
        heads_only = adder.add(clean, LAYER, vectors)
    assert heads_only.sigma is None and torch.equal(heads_only.outputs, added.outputs)
    gaps = [
        torch.maximum((added.outputs[i] - outputs).abs().max(), (added.sigma[i] - sigma).abs().max())
        for i, (outputs, sigma) in enumerate(wanted)
    ]
    return float(torch.stack(gaps).max())


@pytest.mark.parametrize("name", REGISTERED)
def test_one_pass_gives_what_a_run_for_every_position_gives(name):
    model, clean, vectors, wanted = case(name)
    assert error(model, Adder(model), clean, vectors, wanted) < 1e-10
    assert not adder_for(model, TOKENS).single


@pytest.mark.parametrize("name", [*OTHERS, "llama"])
def test_position_by_position_works_for_every_family(name):
    model, clean, vectors, wanted = case(name)
    assert error(model, Adder(model, single=True), clean, vectors, wanted) < 1e-10
    registered = model.network._supports_attention_backend  # GPT-J from transformers 5.24 on
    assert adder_for(model, TOKENS).single == (not registered)


def test_attention_that_sees_other_positions_changes_is_noticed(monkeypatch):
    """Guard: with changed keys and values of earlier positions the pass is another thing, and is not used."""
    attend = all_positions.RowAttention.attend

    def leaky(self, module, query, key, value, *args, **given):
        if not self.recording:
            fold = query.shape[0] // self.clean[module][0].shape[0]
            kept, self.clean[module] = self.clean[module], (key, value)
            attended = attend(self, module, query, key, value, *args, **given)
            self.clean[module] = kept
            assert fold
            return attended
        return attend(self, module, query, key, value, *args, **given)

    monkeypatch.setattr(all_positions.RowAttention, "attend", leaky)
    model = language_model("llama")
    assert adder_for(model, TOKENS).single


def test_the_model_is_left_as_it_was():
    model = families.build("llama")
    from selfrepair import load

    loaded = load(model)
    before = loaded.logits(TOKENS)
    with loaded.running():
        Adder(loaded).add(clean_run(loaded, TOKENS), 0, torch.zeros(1, *TOKENS.shape, families.WIDTH))
    assert model.config._attn_implementation != all_positions.NAME
    assert torch.equal(loaded.logits(TOKENS), before)
