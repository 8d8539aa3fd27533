"""Operators by themselves: what they put in a head's place."""

from __future__ import annotations

import pytest
import torch

from selfrepair import Resample, SelfRepairError
from selfrepair.ablation.interventions import by_start, each
from selfrepair.ablation.operators import operator
from selfrepair.ablation.sites import Head, all_heads
from selfrepair.engine.clean import clean_run, head_outputs
from selfrepair.model.ports import Port
from support import TOKENS, Texts, language_model

CLEAN = torch.randn(2, 5, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Source:
    def mean(self, port):
        return torch.full((3, 4), 10.0 + port.layer)

    def position_mean(self, port):
        return torch.arange(5.0)[:, None, None].expand(5, 3, 4) + port.layer

    def donor(self, port, draw):
        return torch.full_like(CLEAN, 100.0 * draw + port.layer)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("zero", torch.zeros_like(CLEAN)),
        ("mean", torch.full_like(CLEAN, 12.0)),
        ("position-mean", (torch.arange(5.0)[None, :, None, None] + 2).double().expand_as(CLEAN)),
        ("unchanged", CLEAN),
    ],
)
def test_replacements(name, expected):
    built_in = operator(name)
    assert (built_in.name, built_in.draws, built_in.donors) == (name, 1, 0)
    replaced = built_in.replacement(Port(2, "heads"), CLEAN, Source(), 0)
    assert replaced.dtype == CLEAN.dtype and torch.equal(replaced, expected)


def test_resampling_draws_once_per_donor():
    three = operator("resample", 3)
    assert three == Resample(3) and (three.draws, three.donors) == (3, 3)
    for draw in range(3):
        assert (three.replacement(Port(1, "heads"), CLEAN, Source(), draw) == 100 * draw + 1).all()


def test_unknown_names_and_numbers():
    with pytest.raises(SelfRepairError, match="There are: resample, zero, mean, position-mean"):
        operator("shuffle")
    with pytest.raises(SelfRepairError, match="at least one donor"):
        operator("resample", 0)


@pytest.mark.parametrize("name", ["gpt2", "olmo_clip", "falcon_40b"])
def test_value_constants_belong_to_no_head(name):
    """Clean outputs and donors come without them, so that zero and mean mean the same for every layout."""
    model = language_model(name)
    with model.running():
        clean = clean_run(model, TOKENS)
        texts = Texts(clean, head_outputs(model, TOKENS))
        for layer, block in enumerate(model.anatomy.blocks):
            assert torch.equal(texts.donor(Port(layer, "heads"), 0), clean.head_outputs[layer])
            joined = block.heads_place.join(clean.head_outputs[layer])
            assert (block.heads_place.split(joined) - clean.head_outputs[layer]).abs().max() < 1e-14
            zero = block.heads_place.join(torch.zeros_like(clean.head_outputs[layer]))
            assert torch.equal(zero, block.value_constant.flatten().expand_as(zero))
            donor = clean.head_outputs[layer].roll(1, 0)
            put = block.heads_place.put(joined, {1: donor[:, :, 1]}).unflatten(-1, (block.heads, -1))
            whole = joined.unflatten(-1, (block.heads, -1))
            assert torch.equal(put[:, :, 1], donor[:, :, 1] + block.value_constant[1])
            others = [head for head in range(block.heads) if head != 1]
            assert torch.equal(put[:, :, others], whole[:, :, others])  # bit for bit: no constant goes out and in


def test_units():
    heads = all_heads(language_model("gpt2").anatomy)
    assert len(heads) == 12 and heads[0] == Head(2, 0) and str(heads[-1]) == "L0H3"
    units = [Head(0, 3), Head(2, 1), Head(0, 1), Head(2, 0)]
    groups = [(start, [str(site) for site in group]) for start, group in by_start(each(units))]
    assert groups == [(2, ["L2H1", "L2H0"]), (0, ["L0H3", "L0H1"])]
