"""Prompts in token ids: answers in context, positions and spans re-based, twins, and what is dropped."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch

from prompts.words import tokenizer
from selfrepair.errors import SelfRepairError
from selfrepair.prompts import Prompt, Prompts, PromptsDropped

TEXT = "When Mary and John went to the store, John gave a drink to"
TWIN = "When Anna and Tom went to the store, Anna gave a drink to"
PLAIN, FRONT = tokenizer(), tokenizer(front=True)


def ids(text: str) -> list[int]:
    return PLAIN(text, add_special_tokens=False)["input_ids"]


def one(tokenizer=PLAIN, **changes) -> Prompts:
    options = {name: changes.pop(name) for name in ("bos", "first_token", "twins", "chat") if name in changes}
    prompt = Prompt(**{"text": TEXT, "answers": (" Mary",), "wrong": (" John",), **changes})
    return Prompts.of([prompt], tokenizer, **options)


def refusal(*arguments, **changes) -> str:
    with pytest.raises(SelfRepairError) as refused:
        one(*arguments, **changes)
    return str(refused.value)


def test_a_prompt_in_one_line():
    made = one(corrupt=TWIN)
    assert made.tokens.tolist() == [ids(TEXT)] and made.corrupt.tolist() == [ids(TWIN)]
    assert made.answers == ((ids(" Mary")[0],),) and made.wrong == ((ids(" John")[0],),)
    assert made.positions.tolist() == [13] and made.lengths.tolist() == [14]
    readout = made.readout()
    assert (readout.positions, readout.answers, readout.against) == ((13,), made.answers, made.wrong)


@pytest.mark.parametrize(("bos", "moved"), [("auto", 1), ("always", 1), ("never", 0)])
def test_positions_and_spans_move_with_what_stands_in_front(bos, moved):
    made = one(FRONT, bos=bos, position=3, spans={"IO": (1, 2)}, answers=(" went",), wrong=(" gave",))
    assert made.tokens[0, moved:].tolist() == ids(TEXT)
    assert made.positions.tolist() == [3 + moved] and made.spans == ({"IO": (1 + moved, 2 + moved)},)
    assert made.provenance["prefix"] == [0] * moved and made.provenance["bos"] == bos


def test_nothing_is_put_in_front_by_a_tokenizer_without_the_habit_unless_asked():
    assert one().tokens[0].tolist() == ids(TEXT)
    assert one(bos="always").tokens[0].tolist() == [0, *ids(TEXT)]


def test_token_ids_that_have_it_in_front_get_it_once():
    given = one(FRONT, text=(0, *ids(TEXT)), position=14, spans={"IO": (2, 3)})
    bare = one(FRONT, text=tuple(ids(TEXT)), position=13, spans={"IO": (1, 2)})
    assert given.tokens.tolist() == bare.tokens.tolist() == [[0, *ids(TEXT)]]
    assert given.positions.tolist() == bare.positions.tolist() == [14]
    assert given.spans == bare.spans == ({"IO": (2, 3)},)


def test_padding_is_on_the_right_and_a_model_never_reads_it():
    made = Prompts.of([Prompt(TEXT, (" Mary",)), Prompt("The war", (" from",))], PLAIN)
    assert made.tokens[1, :2].tolist() == ids("The war") and made.positions.tolist() == [13, 1]
    assert one(position=-2, answers=(" to",), wrong=(" from",)).positions.tolist() == [12]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text": TEXT + " ", "answers": ("Mary",)}, "Put the space at the text's end into the answer"),
        ({"text": "The war from the year 17", "answers": ("treal",), "wrong": ()}, None),
        ({"text": "The war to 18", "answers": ("00",), "wrong": ()}, "alone it ends ' 18', with the answer ' 1800'"),
        ({"answers": ("Mary",)}, "would go on with the word 'to'. Write ' Mary'"),
        ({"answers": (" Montreal",)}, "is 2 tokens (' Mon' 'treal'); one is measured"),
        ({"answers": (" John",)}, "' John' is the token of a right and of a wrong answer"),
        ({"answers": ("",)}, "An answer is empty"),
        ({"answers": ()}, "wrong answers and no right one"),
        ({"text": "<|end|>" + TEXT}, "the special token '<|end|>' written out"),
        ({"text": ""}, "no tokens"),
        ({"position": 14}, "14 tokens; its answer was to be read at position 14"),
        ({"spans": {"S2": (9, 15)}}, "span 'S2' is [9, 15)"),
        ({"spans": {"S2": (9, 9)}}, "span 'S2' is [9, 9)"),
        ({"weight": 0.0}, "weights are positive"),
        ({"weight": float("nan")}, "weights are positive"),
        ({"answers": (300,)}, "300 is no token of the vocabulary of 2"),
        ({"answers": (-1,)}, "-1 is no token"),
        ({"corrupt": TWIN + " the"}, "Its twin has 15 tokens, the prompt 14"),
        ({"text": (*ids(TEXT), 0)}, "end in 0, padding or the end of a text"),
        ({"text": (0, 0, *ids(TEXT))}, "padding on the left"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_words(changes, words):
    if words is None:
        assert one(**changes).answers == ((ids("treal")[0],),)
    else:
        assert words in refusal(**changes)


def test_answers_of_several_tokens_are_compared_behind_what_they_share():
    made = one(answers=(" Montreal",), wrong=(" Monreal",), corrupt=TWIN, first_token=True)
    shared = ids(" Mon")
    assert made.tokens.tolist() == [ids(TEXT) + shared] and made.corrupt.tolist() == [ids(TWIN) + shared]
    assert made.answers == ((ids("treal")[0],),) and made.wrong == ((ids("real")[0],),)
    assert made.positions.tolist() == [14] and made.texts == (TEXT + " Mon",)
    apart = one(answers=(" Montreal",), wrong=(" Moscow",), first_token=True)
    assert apart.answers == ((ids(" Mon")[0],),) and apart.tokens.tolist() == [ids(TEXT)]
    assert "is the beginning of another one" in refusal(answers=(" Mon",), wrong=(" Montreal",), first_token=True)


def test_an_answer_behind_token_ids_is_tokenised_there_or_refused():
    assert one(text=tuple(ids(TEXT))).answers == one().answers
    split = (*ids("The war to"), ids(" ")[0], ids("18")[0])  # the tokenizer itself writes one token
    assert "are not those that the tokenizer gives their text" in refusal(text=split, answers=("00",), wrong=())


def test_some_prompts_are_dropped_with_a_warning_that_says_why():
    with pytest.warns(PromptsDropped, match="1 of 2 prompts cannot be used and were dropped. b: Its twin has 2 tokens"):
        made = Prompts.of(
            [Prompt(TEXT, (" Mary",), corrupt=TWIN, id="a"), Prompt(TEXT, (" Mary",), corrupt="The war", id="b")], PLAIN
        )
    assert made.ids == ("a",) and [gone.id for gone in made.dropped] == ["b"]
    assert (made.provenance["kept"], made.provenance["dropped"]) == (1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Prompts.of([Prompt(TEXT, (" Mary",), corrupt="The war")], PLAIN, twins="none").corrupt is None


def test_twins_are_there_for_all_prompts_or_for_none():
    made = Prompts.of([Prompt(TEXT, (" Mary",), corrupt=TWIN), Prompt(TEXT, (" Mary",))], PLAIN)
    assert made.corrupt is None and made.provenance["with_twin"] == 1


def test_prompts_without_answers_are_for_the_distribution_alone():
    made = Prompts.of([Prompt(TEXT, corrupt=TWIN)], PLAIN)
    assert made.answers == ((),)
    with pytest.raises(SelfRepairError, match="no answers"):
        made.readout()
    with pytest.warns(PromptsDropped, match="2: It has no answer, and others have"):
        Prompts.of([Prompt(TEXT, (" Mary",)), Prompt(TEXT)], PLAIN)
    mixed = Prompts.of([Prompt(TEXT, (" Mary",), (" John",)), Prompt(TEXT, (" Mary",))], PLAIN)
    with pytest.raises(SelfRepairError, match="such as '2'"):
        mixed.readout()


def test_names_are_their_own():
    with pytest.raises(SelfRepairError, match="Two prompts are called 'a'"):
        Prompts.of([Prompt(TEXT, (" Mary",), id="a")] * 2, PLAIN)


def grouped() -> Prompts:
    sizes = {"x": 4, "y": 2, "z": 2}
    prompts = [Prompt(TEXT, (" Mary",), (" John",), group=name) for name, size in sizes.items() for _ in range(size)]
    return Prompts.of(prompts, PLAIN)


def test_halves_have_no_group_in_common():
    made = grouped()
    first, second = made.split(seed=1)
    assert len(first) == len(second) == 4 and not set(first.groups) & set(second.groups)
    assert sorted(first.ids + second.ids) == sorted(made.ids)
    assert all(len(half) == 4 for seed in range(12) for half in made.split(seed))  # 4 against 2 + 2, however drawn
    single = made.select(np.array(made.groups) == "x")
    parts = {tuple(sorted(half.ids for half in single.split(seed))) for seed in range(8)}
    assert len(parts) > 1 and single.split(3)[0].ids == single.split(3)[0].ids
    with pytest.raises(SelfRepairError, match="single prompt"):
        made.select([0]).split()


def test_some_of_them():
    made = grouped()
    assert made.select([5, 0]).ids == ("6", "1") and made.select([5, 0]).provenance["selected"] == 2
    assert len(made.select([])) == 0
    with pytest.raises(IndexError):
        made.select([8])


def test_the_fingerprint_is_of_what_is_measured():
    made = one(corrupt=TWIN, group="a", spans={"IO": (1, 2)})
    assert made.fingerprint == one(corrupt=TWIN, group="a", spans={"IO": (1, 2)}).fingerprint
    padded = Prompts.of([Prompt("The war", (" from",)), Prompt(TEXT, (" Mary",), id="x")], PLAIN)
    assert padded.select([0]).fingerprint == Prompts.of([Prompt("The war", (" from",))], PLAIN).fingerprint
    others = [
        one(corrupt=TEXT, group="a", spans={"IO": (1, 2)}),
        one(corrupt=TWIN, group="b", spans={"IO": (1, 2)}),
        one(corrupt=TWIN, group="a", spans={"IO": (1, 3)}),
        one(corrupt=TWIN, group="a"),
        one(corrupt=TWIN, group="a", spans={"IO": (1, 2)}, weight=2.0),
        one(corrupt=TWIN, group="a", spans={"IO": (1, 2)}, answers=(" Tom",)),
    ]
    assert made.fingerprint not in {other.fingerprint for other in others}
    json.dumps(made.provenance)


def test_pairs_of_texts_and_of_tensors():
    texts = Prompts.from_pairs([TEXT, TEXT], [TWIN, TWIN], [(" Mary", " John")] * 2, PLAIN)
    clean, corrupt = (torch.tensor([ids(text)] * 2) for text in (TEXT, TWIN))
    answers = torch.tensor([[ids(" Mary")[0], ids(" John")[0]]] * 2)
    tensors = Prompts.from_pairs(clean, corrupt, answers)
    assert texts.fingerprint == tensors.fingerprint and tensors.texts == ("", "")
    single = Prompts.from_pairs(clean, None, answers[:, 0], groups=["a", "b"])
    assert single.wrong == ((), ()) and single.groups == ("a", "b")
    several = Prompts.from_pairs(clean, None, answers, wrong=answers[:, :1] + 2)
    assert [len(right) for right in several.answers] == [2, 2]


def test_pairs_that_are_padded():
    padded = torch.tensor([ids(TEXT), [*ids("The war"), *[0] * 12]])
    answers = torch.tensor([ids(" Mary"), ids(" from")])
    with pytest.warns(PromptsDropped, match="lengths= to from_pairs"):
        Prompts.from_pairs(padded, None, answers, PLAIN)
    made = Prompts.from_pairs(padded, None, answers, PLAIN, lengths=[14, 2])
    assert made.positions.tolist() == [13, 1]
    with pytest.warns(PromptsDropped, match="padding on the left"):
        Prompts.from_pairs(padded.flip(1), None, answers, PLAIN)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((TEXT,), "a single text"),
        (([TEXT], [TWIN, TWIN]), "1 clean prompts and 2 corrupt"),
        (([TEXT], None, [(" Mary", " John", " Tom")]), r"expected as \[prompt, 2\]"),
        ((torch.rand(2, 3),), "among its token ids"),
        (([3],), "type int"),
    ],
)
def test_pairs_of_other_shapes_are_refused(arguments, words):
    with pytest.raises(SelfRepairError, match=words):
        Prompts.from_pairs(*arguments, model_or_tokenizer=PLAIN)


def test_options_are_checked():
    with pytest.raises(SelfRepairError, match="no option 'box'"):
        one().of([Prompt(TEXT)], PLAIN, box="auto")
    for option in ("bos", "twins"):
        assert f"{option} is 'x'" in refusal(**{option: "x"})
    with pytest.raises(SelfRepairError, match="A list of prompts was expected"):
        Prompts.of(Prompt(TEXT), PLAIN)
    with pytest.raises(SelfRepairError, match="There are no prompts"):
        Prompts.of([], PLAIN)
    with pytest.raises(SelfRepairError, match="there is no tokenizer"):
        Prompts.of([Prompt(TEXT)], None)


def test_the_table_and_what_notebooks_show():
    made = one(text="The <b>war", corrupt=None, answers=(" from",), wrong=())
    table = made.table()
    assert table.loc[0, "tokens"] == made.lengths[0] and table.loc[0, "answers"] == made.answers[0]
    assert "1 prompts without twins, 1 groups, 0 dropped; given prompts" in repr(made)
    assert "<b>war" not in made._repr_html_() and "&lt;b&gt;war" in made._repr_html_()


def test_a_chat_template_is_put_around_each_text():
    chat = tokenizer()
    for end, answers in (("\n", ("Paris", "The")), (":", (" Paris", " The"))):  # no space where a line begins
        ending = json.dumps(end)
        chat.chat_template = f"<|end|>{{{{ messages[0]['content'] }}}}<|end|>The{{{{ {ending} }}}}"
        made = one(chat, chat=True, corrupt=TWIN, answers=(" Paris",), wrong=(" The",))
        assert made.tokens[0].tolist() == [0, *ids(TEXT), 0, *ids("The" + end)]
        assert made.corrupt[0, 1:15].tolist() == ids(TWIN) and made.positions.tolist() == [17]
        assert [*made.answers, *made.wrong] == [tuple(ids(answer)) for answer in answers]
        assert made.texts == (TEXT,)
    assert "positions or spans" in refusal(chat, chat=True, spans={"IO": (0, 1)})
    assert "written out" in refusal(chat, chat=True, text="<|end|>")
    assert "It is token ids" in refusal(chat, chat=True, text=tuple(ids(TEXT)))
    assert "chat template fails" in refusal(PLAIN, chat=True)
