"""Prompts with names, movers and backups, against plain forwards and planted ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from loading.tiny_models import tokenizer
from selfrepair import load
from selfrepair.errors import SelfRepairError
from selfrepair.model.taps import on_input, removing
from selfrepair.paper.experiments.name_movers import figures
from selfrepair.paper.experiments.name_movers import study as name_movers
from selfrepair.paper.experiments.name_movers.prompts import ORDERS, TEMPLATES, Prompts, make_prompts
from support import language_model, roomy
from zoo import families, oracle
from zoo.anatomy import ANATOMY
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
    for place, text in enumerate(prompts.texts):
        indirect, subject = names[prompts.indirect[place]], names[prompts.subject[place]]
        assert indirect != subject
        assert text.count(f"{indirect}") >= 1 and text.count(subject) >= 2
        first = text.index(indirect) < text.index(subject)
        assert first == (ORDERS[prompts.order[place]] == "ABBA")
        end = prompts.end[place]
        assert names[prompts.tokens[place, end]] in ("to",) and not prompts.tokens[place, end + 1 :].any()
        twin = {names[one] for one in prompts.corrupted[place, : end + 1]}
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
    return Prompts(
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

    for label, found in study.ablated.items():
        heads = study.movers if label == "all movers" else [h for h in study.movers if str(h) == label]
        # a lower mover's ablation changes what reaches a higher one: all are put in place in one forward
        np.testing.assert_allclose(found, differences(model, prompts, [put(head) for head in heads]), atol=1e-9)
        parts = study.parts[label]
        repair = parts["total"] + parts["lost"]
        if not model.anatomy.has_post_norms:
            np.testing.assert_allclose(repair, parts["heads"] + parts["mlps"] + parts["norm"], atol=1e-9)
    seen = {}
    source = model.anatomy.blocks[study.source].module
    target = model.anatomy.blocks[study.source + 1].module
    handles = [on_input(source, lambda value: seen.update(r=value.clone())), on_input(target, lambda _: seen["r"])]
    np.testing.assert_allclose(study.moved_difference, differences(model, prompts, handles), atol=1e-9)
    below = [place for place, head in enumerate(study.heads) if head.layer <= study.source]
    assert (study.moved[:, below] == 0).all()


def test_direct_effects_add_up_with_the_rest_to_the_logit_difference():
    model, prompts = language_model("llama"), random_prompts()
    study = name_movers.study_ioi(model, prompts, most=1)
    twice = name_movers.study_ioi(
        model, Prompts(**{**vars(prompts), "indirect": prompts.subject, "subject": prompts.indirect})
    )
    np.testing.assert_allclose(study.effects, -twice.effects, atol=1e-12)


def planted_prompts():
    return Prompts(
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
    place = study.heads.index(name_movers.Head(1, 0))
    assert study.effects[0, 0] == pytest.approx(whole) and study.effects[0, place] == pytest.approx(0, abs=1e-9)
    assert study.change["all movers"][0, place] == pytest.approx(0.6 * whole)
    assert study.difference[0] - study.ablated["all movers"][0] == pytest.approx(0.4 * whole)
    table = figures.movers_and_backups(study).table.set_index("name")
    assert table["role"].to_dict() == {str(h): "" for h in study.heads} | {
        "L0H0": figures.MOVER,
        "L1H0": figures.BACKUP,
    }


def test_a_suppressor_that_lets_go_is_no_backup():
    case = copy_suppressor()
    study = name_movers.study_ioi(load(roomy(case.model)), planted_prompts())
    table = figures.movers_and_backups(study).table.set_index("name")
    assert table["role"]["L1H1"] == figures.RELEASED
    assert table["response"]["L1H1"] == pytest.approx(case.head_lines[1, 1] * 6 / 5)


@pytest.mark.parametrize(
    ("movers", "source", "said"),
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
def test_the_caption_says_whose_input_is_moved(movers, source, said):
    model = language_model("llama")
    chosen = tuple(name_movers.Head(*mover) for mover in movers)
    assert name_movers._source(model, chosen) == source
    study = replace(name_movers.study_ioi(model, random_prompts(), most=1), movers=chosen, source=source)
    exhibit = figures.movers_and_backups(study)
    assert said in exhibit.caption
    assert exhibit.picture.panels[1].title == f"layer {source}'s input moved into layer {source + 1}"
