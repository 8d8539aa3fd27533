"""QK and OV: on every family against the model's own attentions, and on planted heads whose reason is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attention_prompts import prompts_of

from selfrepair import Head, SelfRepairError, load
from selfrepair.ablation.interventions import Intervention, freezing
from selfrepair.questions.measuring.prompt_effects import prompt_effects
from selfrepair.questions.paths.attention_split import attention_split
from support import fresh_model, language_model, roomy
from zoo import attention, families, oracle
from zoo.anatomy import ANATOMY
from zoo.planted import ANSWER, OTHER, PLANTED, POSITION, VOCAB

LENGTHS, POSITIONS, ANSWERS, WRONG = (12, 12, 9), (11, 7, 8), (5, 6, 7), (8, 9, 10)
TOKENS = families.tokens(3, seed=2)
ABLATED = Head(0, 1)
LATER = [Head(layer, head) for layer in (1, 2) for head in range(families.HEADS)]


def random_prompts(**changed):
    return prompts_of(TOKENS.numpy(), LENGTHS, ANSWERS, WRONG, positions=POSITIONS, **changed)


IMPLEMENTATION = {"falcon_rw": "eager"}  # there sdpa computes something else, and tells no attentions


def by_hand(name: str) -> attention.Split:
    network, hand = families.build(name, "eager").double(), ANATOMY[name]
    u = [oracle.directions(network, hand, torch.tensor(some))[0] for some in (ANSWERS, WRONG)]
    return attention.split(network, hand, TOKENS, torch.tensor(POSITIONS), u[0] - u[1], ABLATED)


@pytest.mark.parametrize("name", families.FAMILIES)
def test_splits_equal_the_models_own_attentions_and_values(name):
    prompts, base = random_prompts(), Intervention((ABLATED,))
    model = language_model(name, IMPLEMENTATION.get(name))
    found, truth = attention_split(model, prompts, base, LATER, "zero"), by_hand(name)
    effects = prompt_effects(model, prompts, [base], "zero")
    assert found.residual < 1e-9
    for row, (layer, head) in enumerate(LATER):
        np.testing.assert_allclose(found.line[row], effects.heads[0, :, layer, head], atol=1e-9)
        np.testing.assert_allclose(found.qk_parts[row], truth.qk[layer, :, head], atol=1e-9)
        np.testing.assert_allclose(found.ov_parts[row], truth.ov[layer, :, head], atol=1e-9)
    assert np.abs(found.qk).max() > 1e-4 < np.abs(found.ov).max()
    np.testing.assert_allclose(found.query + found.key, found.qk, atol=1e-9)  # a NaN would fail
    assert np.abs(found.query).max() > 1e-5 < np.abs(found.key).max()
    np.testing.assert_allclose(found.before.sum(-1), 1, atol=1e-12)


def test_a_model_whose_two_attentions_differ_is_split_as_it_is():
    model, prompts, base = language_model("falcon_rw"), random_prompts(), Intervention((ABLATED,))
    assert model.network.config._attn_implementation == "sdpa"
    split, effects = (
        attention_split(model, prompts, base, LATER, "zero"),
        prompt_effects(model, prompts, [base], "zero"),
    )
    assert split.residual < 1e-9
    np.testing.assert_allclose(split.line, effects.heads[0][:, 1:].reshape(3, -1).T, atol=1e-9)
    np.testing.assert_allclose(split.query + split.key, split.qk, atol=1e-9)


def test_other_kernels_give_way_to_plain_attention(monkeypatch):
    """A kernel that shows no products: the split is made with plain attention, and the kernel is put back."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def hidden(*args, **kwargs):
        with torch._C.DisableTorchFunction():
            return sdpa_attention_forward(*args, **kwargs)

    AttentionInterface.register("hidden", hidden)
    AttentionMaskInterface.register("hidden", sdpa_mask)
    model, base = fresh_model("llama"), Intervention((ABLATED,))
    wanted = attention_split(model, random_prompts(), base, LATER, "zero")
    model.network.set_attn_implementation("hidden")
    found = attention_split(model, random_prompts(), base, LATER, "zero")
    np.testing.assert_allclose(found.qk_parts, wanted.qk_parts, atol=1e-9)
    assert model.network.config._attn_implementation == "hidden"


@pytest.mark.parametrize("head", [Head(1, 2), Head(2, 1)])
def test_queries_and_keys_by_hand(head):
    """GPT-2's own formula, with the two runs' queries and keys mixed; mixing in other layers changes nothing."""
    name = "gpt2"
    split = attention_split(language_model(name), random_prompts(), Intervention((ABLATED,)), LATER, "zero")
    row = split.row(head)
    network, hand = families.build(name, "eager").double(), ANATOMY[name]
    read = {}
    for run, ablated in (("clean", None), ("ablated", ABLATED)):
        norm = hand.part(network, head.layer, "attention_norm")
        handle = norm.register_forward_hook(lambda _m, _a, out, run=run: read.__setitem__(run, out.clone()))
        attention.reads(network, hand, TOKENS, ablated)
        handle.remove()
    windows, positions = torch.arange(3), torch.tensor(POSITIONS)
    own = slice(head.head * 10, head.head * 10 + 10)
    parts = {}
    for run, stream in read.items():
        c_attn = hand.part(network, head.layer, "attention").c_attn
        queries, keys, _ = (stream @ c_attn.weight + c_attn.bias).detach().chunk(3, -1)
        parts[run] = queries[windows, positions][:, own], keys[..., own]

    def weights(queries: str, keys: str):
        scores = torch.einsum("we,wse->ws", parts[queries][0], parts[keys][1]) / 10**0.5
        later = torch.arange(scores.shape[1]) > positions[:, None]
        return scores.masked_fill(later, -torch.inf).softmax(-1).numpy()

    def weigh(change):
        seen = split.qk_parts[row]  # a source's worth is what its change of attention was multiplied by
        change_of_both = weights("ablated", "ablated") - weights("clean", "clean")
        worth = np.divide(seen, change_of_both, out=np.zeros_like(seen), where=np.abs(change_of_both) > 0)
        return (change * worth).sum(-1)

    queries_first = weights("ablated", "clean") - weights("clean", "clean")
    queries_last = weights("ablated", "ablated") - weights("clean", "ablated")
    np.testing.assert_allclose(split.query[row], weigh((queries_first + queries_last) / 2), atol=1e-9)
    np.testing.assert_allclose(split.before[row], weights("clean", "clean"), atol=1e-12)


def planted(name: str):
    """What a planted head's line is made of, in the planted model's logits."""
    case = PLANTED[name]()
    (head,) = case.head_lines
    prompts = prompts_of(case.tokens.numpy(), (POSITION + 1,), (ANSWER,), (OTHER,))
    split = attention_split(
        load(roomy(case.model)), prompts, Intervention((Head(case.layer, case.head),)), [Head(*head)], "zero"
    )
    centring = VOCAB / (VOCAB - 1)  # the planted numbers are centred logits, these are differences of two
    return case.head_lines[head], split.qk[0, 0] / centring, split.ov[0, 0] / centring, split


@pytest.mark.parametrize("name", ["backup", "copy_suppressor", "re_aimed_suppressor"])
def test_heads_that_look_elsewhere_are_all_qk_by_their_queries(name):
    line, qk, ov, split = planted(name)
    assert (qk, ov) == (pytest.approx(line, abs=1e-9), pytest.approx(0, abs=1e-9))
    assert split.query[0, 0] == pytest.approx(split.qk[0, 0], abs=1e-9)
    assert split.key[0, 0] == pytest.approx(0, abs=1e-9)
    assert split.table().qk_share[0] == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("name", ["released_suppressor", "turned_suppressor"])
def test_suppressors_that_read_the_answer_are_all_ov(name):
    line, qk, ov, split = planted(name)
    assert (qk, ov) == (pytest.approx(0, abs=1e-9), pytest.approx(line, abs=1e-9))
    assert split.table().qk_share[0] == pytest.approx(0, abs=1e-8)
    top = split.sources(split.heads[0], 0, top=1)
    assert top.position[0] == POSITION  # it attends to its own position
    assert top.part[0] == pytest.approx(split.line[0, 0], abs=1e-9)


def test_attention_moves_from_place_to_place():
    """The planted head goes from the source to BOS; over prompts of several lengths named spans are one place."""
    _, _, _, split = planted("re_aimed_suppressor")
    shifts = split.shifts(split.heads[0]).set_index("place")
    assert shifts.before.to_dict() == pytest.approx({"2 before": 0, "1 before": 1, "answer position": 0}, abs=1e-9)
    assert shifts.after.to_dict() == pytest.approx({"2 before": 1, "1 before": 0, "answer position": 0}, abs=1e-9)


@pytest.mark.parametrize("spans", [None, ({"name": (1, 3)}, {"name": (4, 5)}, {"name": (0, 2)})])
def test_places_of_prompts_of_several_lengths_add_up(spans):
    prompts = random_prompts(spans=spans)
    split = attention_split(language_model("llama"), prompts, Intervention((ABLATED,)), LATER, "zero", sides=False)
    for row, head in enumerate(LATER):
        shifts = split.shifts(head)
        assert shifts.before.sum() == pytest.approx(1, abs=1e-9) == shifts.after.sum()
        assert shifts.part.sum() == pytest.approx(split.line[row].mean(), abs=1e-9)
    if spans:
        assert list(shifts.place) == ["name", "first token", "answer position", "elsewhere"]
        wanted = np.mean([split.before[row, one, slice(*some["name"])].sum() for one, some in enumerate(spans)])
    else:
        assert list(shifts.place) == [*(f"{back} before" for back in range(7, 0, -1)), "answer position", "elsewhere"]
        wanted = np.mean([split.before[row, one, place - 7] for one, place in enumerate(POSITIONS)])
    assert shifts.before[0] == pytest.approx(wanted, abs=1e-12)
    assert np.isnan(split.query).all()


def test_sources_are_the_largest_parts_of_one_prompt():
    split = attention_split(language_model("gpt2"), random_prompts(), Intervention((ABLATED,)), LATER[:1], "mean")
    table = split.sources(LATER[0], 2)
    parts = split.qk_parts[0, 2] + split.ov_parts[0, 2]
    assert len(table) == 5
    assert list(table.position) == sorted(range(9), key=lambda place: -abs(parts[place]))[:5]
    assert list(table.token) == [str(int(TOKENS[2, place])) for place in table.position]  # without a tokenizer: ids
    np.testing.assert_allclose(table.part, parts[table.position])


def test_draws_are_averaged():
    """Two donors: the mean of both ablated runs, so lines are those of the ledger."""
    prompts = prompts_of(TOKENS.numpy(), (12, 12, 12), ANSWERS, WRONG)
    model, base = language_model("qwen2"), Intervention((ABLATED,))
    split = attention_split(model, prompts, base, LATER, "resample", donors=2)
    effects = prompt_effects(model, prompts, [base], "resample", donors=2)
    np.testing.assert_allclose(split.line, effects.heads[0][:, 1:].reshape(3, -1).T, atol=1e-9)
    assert split.residual < 1e-9


def test_the_models_attention_is_as_it_was(monkeypatch):
    from transformers.models.llama import modeling_llama

    def other(*_args, **_kwargs):
        raise AssertionError("the model's own attention can be read")

    monkeypatch.setattr(modeling_llama, "eager_attention_forward", other)
    model = language_model("llama")
    used = model.network.config._attn_implementation
    attention_split(model, random_prompts(), Intervention((ABLATED,)), LATER[:1], "zero")
    assert model.network.config._attn_implementation == used == "sdpa"
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.network.modules())


def test_heads_that_are_replaced_or_frozen_or_not_there_are_refused():
    model, prompts, base = language_model("gpt2"), random_prompts(), Intervention((ABLATED,))
    with pytest.raises(SelfRepairError, match="L0H1 is itself replaced or frozen"):
        attention_split(model, prompts, base, [ABLATED], "zero")
    with pytest.raises(SelfRepairError, match="L2H0 is itself replaced or frozen"):
        attention_split(model, prompts, freezing(base, [Head(2, 0)]), [Head(2, 0)], "zero")
    with pytest.raises(SelfRepairError, match="There is no L2H9"):
        attention_split(model, prompts, base, [Head(2, 9)], "zero")
    with pytest.raises(SelfRepairError, match="L2H0 was not split"):
        attention_split(model, prompts, base, LATER[:1], "zero").shifts(Head(2, 0))


def test_a_head_with_a_gated_output_is_refused_and_others_are_split():
    model = fresh_model("gpt2")
    projection = model.anatomy.blocks[1].projection

    def gate(_module, args):
        gated = args[0].clone()
        gated[..., :10] *= torch.sigmoid(gated[..., :1])
        return (gated,)

    projection.register_forward_pre_hook(gate)
    with pytest.raises(SelfRepairError, match="L1H0 cannot be split by source: its output differs"):
        attention_split(model, random_prompts(), Intervention((ABLATED,)), [Head(1, 0)], "zero")
    split = attention_split(model, random_prompts(), Intervention((ABLATED,)), [Head(1, 1)], "zero")
    assert split.residual < 1e-9


def test_attention_without_a_product_is_refused(monkeypatch):
    from transformers.models.gpt2 import modeling_gpt2

    def einsum(module, query, key, value, mask, scaling=None, **_others):
        scores = torch.einsum("whqe,whse->whqs", query, key) * scaling + mask
        return torch.einsum("whqs,whse->wqhe", scores.softmax(-1), value), None

    model = fresh_model("gpt2", "eager")
    monkeypatch.setattr(modeling_gpt2, "eager_attention_forward", einsum)
    with pytest.raises(SelfRepairError, match=r"layer 1 read cannot be split by source: GPT2Block computes no product"):
        attention_split(model, random_prompts(), Intervention((ABLATED,)), LATER[:1], "zero")


def test_scores_of_more_than_queries_and_keys_are_not_split_by_side(monkeypatch):
    """A bias that queries make beside the product: with clean factors the weights are not the clean ones."""
    from transformers.models.gpt2 import modeling_gpt2

    def biased(module, query, key, value, mask, scaling=None, **_others):
        bias = query[..., :1] * torch.arange(key.shape[-2], dtype=query.dtype)
        scores = torch.matmul(query, key.transpose(-1, -2)) * scaling + bias + mask
        return torch.matmul(scores.softmax(-1), value).transpose(1, 2), None

    model = fresh_model("gpt2", "eager")
    monkeypatch.setattr(modeling_gpt2, "eager_attention_forward", biased)
    split = attention_split(model, random_prompts(), Intervention((ABLATED,)), LATER, "zero")
    assert split.residual < 1e-9
    assert np.isnan(split.query).all()
    assert np.isnan(split.key).all()
    assert np.isnan(split.table()["query"]).all()
    assert split.table().qk.notna().all()
