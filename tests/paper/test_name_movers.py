"""Prompts with names, movers and backups, against plain forwards and planted ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from loading.tiny_models import tokenizer
from selfrepair import load
from selfrepair.effects.lines import LINES
from selfrepair.errors import SelfRepairError
from selfrepair.model.taps import on_input, removing
from selfrepair.paper.experiments.name_movers import head_roles, name_mover_figures
from selfrepair.paper.experiments.name_movers import ioi_study as name_movers
from selfrepair.paper.experiments.name_movers.ioi_prompts import ORDERS, TEMPLATES, IoiPrompts, make_prompts
from support import language_model, roomy
from zoo import families, interventions, oracle
from zoo.anatomy import ANATOMY, value_constants
from zoo.planted import ANSWER, BOS, NEUTRAL, OTHER, SOURCE, TASK, backup, copy_suppressor


class Words:
    """A tokenizer of whole words; `Jane` is two."""

    bos_token_id = None

    def __init__(self):
        self.known = {}

    def __call__(self, text, add_special_tokens=True):
        words = text.replace(".", " .").replace(",", " ,").replace("Jane", "Ja ne").split()
        return {"input_ids": [self.known.setdefault(word, len(self.known) + 3) for word in words]}


def test_prompts_are_what_they_should_be():
    words = Words()
    prompts = make_prompts(words, each=3)
    names = {number: word for word, number in words.known.items()}
    assert len(TEMPLATES) == 15 and len(prompts) == 15 * 2 * 3
    assert not any("Jane" in text or "[" in text for text in prompts.texts)
    for row, text in enumerate(prompts.texts):
        indirect, subject = names[prompts.indirect[row]], names[prompts.subject[row]]
        assert indirect != subject
        assert text.count(f"{indirect}") >= 1 and text.count(subject) >= 2
        first = text.index(indirect) < text.index(subject)
        assert first == (ORDERS[prompts.order[row]] == "ABBA")
        end = prompts.end[row]
        assert names[prompts.tokens[row, end]] in ("to",) and not prompts.tokens[row, end + 1 :].any()
        twin = {names[token] for token in prompts.corrupted[row, : end + 1]}
        assert indirect not in twin and subject not in twin
    changed = prompts.tokens != prompts.corrupted
    assert (changed.sum(1) >= 3).all()
    assert (make_prompts(Words(), each=3, seed=1).texts) != prompts.texts


def test_too_few_names_are_refused():
    with pytest.raises(SelfRepairError, match="single tokens"):
        make_prompts(tokenizer())  # one token a character


def random_prompts(count=6, length=12):
    rng = np.random.default_rng(0)
    end = rng.integers(length // 2, length, count)
    real = np.arange(length) <= end[:, None]
    tokens, twins = (np.where(real, rng.integers(3, families.VOCAB, (count, length)), 0) for _ in range(2))
    pair = rng.permuted(np.tile(np.arange(3, families.VOCAB), (count, 1)), axis=1)[:, :2]
    return IoiPrompts(
        tokens, twins, end, pair[:, 0], pair[:, 1], np.arange(count) % 3, np.arange(count) % 2, ("",) * count
    )


def differences(model, prompts, handles=()):
    tokens = torch.from_numpy(prompts.tokens)
    with removing(*handles), model.running():
        logits = model.logits(tokens)
    rows = np.arange(len(prompts))
    last = logits[rows, prompts.end]
    return (last[rows, prompts.indirect] - last[rows, prompts.subject]).numpy()


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox_parallel", "llama", "gemma2", "granite"])
def test_a_study_is_what_plain_forwards_give(name):
    model, prompts = language_model(name), random_prompts()
    study = name_movers.study_ioi(model, prompts, most=2)
    np.testing.assert_allclose(study.difference, differences(model, prompts), atol=1e-9)
    hand = ANATOMY[name]
    donors = oracle.trace(model.network, hand, torch.from_numpy(prompts.corrupted)).z

    def put(head):
        block = model.anatomy.blocks[head.layer]

        def change(value):
            value = value.clone()
            size = block.head_dim
            replaced = donors[head.layer, :, :, head.head].reshape(*value.shape[:-1], size)
            value[..., head.head * size : (head.head + 1) * size] = replaced
            return value

        return on_input(block.projection, change)

    for label, measured in study.ablated.items():
        heads = study.movers if label == "all movers" else [h for h in study.movers if str(h) == label]
        # a lower mover's ablation changes what reaches a higher one: all are put in place in one forward
        np.testing.assert_allclose(measured, differences(model, prompts, [put(head) for head in heads]), atol=1e-9)
        parts = study.parts[label]
        repair = parts["total"] + parts["lost"]
        np.testing.assert_allclose(repair, sum(parts[line.name] for line in LINES), atol=1e-9)
    seen = {}
    source = model.anatomy.blocks[study.source].module
    target = model.anatomy.blocks[study.source + 1].module
    handles = [on_input(source, lambda value: seen.update(r=value.clone())), on_input(target, lambda _: seen["r"])]
    np.testing.assert_allclose(study.moved_difference, differences(model, prompts, handles), atol=1e-9)
    below = [column for column, head in enumerate(study.heads) if head.layer <= study.source]
    assert (study.moved[:, below] == 0).all()


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox_parallel", "gemma2"])
def test_the_ledger_of_movers_is_that_of_vectors_in_plain_forwards(monkeypatch, name):
    """Every write as a vector, read at the last token in the difference of the two names' directions."""
    model, prompts, hand = language_model(name), random_prompts(), ANATOMY[name]
    network, tokens = model.network, torch.from_numpy(prompts.tokens)
    movers = (name_movers.Head(1, 0), name_movers.Head(0, 1), name_movers.Head(1, 2))
    monkeypatch.setattr(name_movers, "_movers", lambda *_: movers)
    study = name_movers.study_ioi(model, prompts)
    assert list(study.change) == ["L1H0", "L0H1", "L1H2", "all movers"]
    rows, end = np.arange(len(prompts)), prompts.end
    names = [torch.from_numpy(targets)[:, None].expand_as(tokens) for targets in (prompts.indirect, prompts.subject)]
    (u, beta), (u_other, beta_other) = (oracle.directions(network, hand, targets) for targets in names)
    u, beta = u - u_other, beta - beta_other
    clean, donors = (oracle.trace(network, hand, torch.from_numpy(x)) for x in (prompts.tokens, prompts.corrupted))
    final, constants = network.get_submodule(hand.final_norm), value_constants(network, hand)
    sigma = hand.scale(final, clean.residual)

    def effects(run):
        return oracle._head_lines(network, hand, run.z, constants, clean, u, sigma)[..., rows, end]

    for label, change in study.change.items():
        heads = study.movers if label == "all movers" else [head for head in study.movers if str(head) == label]
        put = {layer: torch.zeros(tokens.shape[1], hand.heads, dtype=torch.bool) for layer, _ in heads}
        for layer, head in heads:
            put[layer][:, head] = True
        ablated = interventions.trace(
            network, hand, tokens, interventions.Patches({layer: (put[layer], donors.z[layer]) for layer in put})
        )
        wanted = (effects(ablated) - effects(clean)).numpy()
        lost = -sum(wanted[head] for head in heads)
        attention = wanted.sum((0, 1))
        for head in heads:
            wanted[head] = 0
        np.testing.assert_allclose(change, wanted.reshape(-1, len(prompts)).T, atol=1e-9)
        moved = (u * (ablated.mlps - clean.mlps).sum(0)).sum(-1) / sigma
        scale = hand.scale(final, ablated.residual)
        norm = (1 - scale / sigma) * (u * ablated.residual).sum(-1) / scale
        total = (u * ablated.residual).sum(-1) / scale - (u * clean.residual).sum(-1) / sigma
        parts = {"lost": lost, "heads": wanted.sum((0, 1)), "mlps": moved[rows, end].numpy()}
        parts |= {"norm": norm[rows, end].numpy(), "total": total[rows, end].numpy(), "mixers": np.zeros(len(prompts))}
        parts["post_norms"] = parts["total"] - parts["norm"] - parts["mlps"] - attention
        assert set(parts) == set(study.parts[label])
        for part, values in parts.items():
            np.testing.assert_allclose(study.parts[label][part], values, atol=1e-9, err_msg=part)
        assert (np.abs(parts["post_norms"]).max() > 1e-6) == model.anatomy.has_post_norms


def test_direct_effects_add_up_with_the_rest_to_the_logit_difference():
    model, prompts = language_model("llama"), random_prompts()
    study = name_movers.study_ioi(model, prompts, most=1)
    twice = name_movers.study_ioi(
        model, IoiPrompts(**{**vars(prompts), "indirect": prompts.subject, "subject": prompts.indirect})
    )
    np.testing.assert_allclose(study.effects, -twice.effects, atol=1e-12)


def planted_prompts():
    return IoiPrompts(
        np.array([[BOS, SOURCE, TASK, ANSWER]] * 2),
        np.array([[BOS, NEUTRAL, TASK, ANSWER]] * 2),
        np.array([2, 2]),
        np.array([ANSWER] * 2),
        np.array([OTHER] * 2),
        np.array([0, 1]),
        np.array([0, 1]),
        ("", ""),
    )


def test_the_planted_backup_is_found():
    """The mover writes 1, which reads 6/5 against a token that nothing writes; the backup makes up 60% of it."""
    study = name_movers.study_ioi(load(roomy(backup(0.6).model)), planted_prompts())
    whole = 6 / 5
    assert study.movers == (name_movers.Head(0, 0),)
    column = study.heads.index(name_movers.Head(1, 0))
    assert study.effects[0, 0] == pytest.approx(whole) and study.effects[0, column] == pytest.approx(0, abs=1e-9)
    assert study.change["all movers"][0, column] == pytest.approx(0.6 * whole)
    assert study.difference[0] - study.ablated["all movers"][0] == pytest.approx(0.4 * whole)
    table = name_mover_figures.movers_and_backups(study).table.set_index("name")
    assert table["role"].to_dict() == {str(h): "" for h in study.heads} | {
        "L0H0": head_roles.MOVER,
        "L1H0": head_roles.BACKUP,
    }


def test_a_suppressor_that_lets_go_is_no_backup():
    case = copy_suppressor()
    study = name_movers.study_ioi(load(roomy(case.model)), planted_prompts())
    table = name_mover_figures.movers_and_backups(study).table.set_index("name")
    assert table["role"]["L1H1"] == head_roles.RELEASED
    assert table["response"]["L1H1"] == pytest.approx(case.head_lines[1, 1] * 6 / 5)


@pytest.mark.parametrize(
    ("movers", "source", "message"),
    [
        (((1, 0), (0, 2)), 1, "the input of layer 1 (that of the strongest mover, L1H0) put in place of the next"),
        (
            ((2, 1), (2, 3), (0, 2), (1, 0)),
            0,
            "the input of layer 0 (that of L0H2: above the strongest mover, L2H1 in layer 2, there is no layer",
        ),
        (((2, 1), (2, 0)), 1, "the input of layer 1 (the last with a layer above it: every mover is in layer 2, the l"),
    ],
)
def test_the_caption_says_whose_input_is_moved(movers, source, message):
    model = language_model("llama")
    chosen = tuple(name_movers.Head(*mover) for mover in movers)
    assert name_movers._source(model, chosen) == source
    study = replace(name_movers.study_ioi(model, random_prompts(), most=1), movers=chosen, source=source)
    exhibit = name_mover_figures.movers_and_backups(study)
    assert message in exhibit.caption
    assert exhibit.picture.panels[1].title == f"layer {source}'s input moved into layer {source + 1}"
