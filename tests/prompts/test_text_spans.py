"""Spans by text and by characters."""

from __future__ import annotations

import json
import time

import pandas as pd
import pytest
from words import tokenizer

from selfrepair import Prompt, Prompts, PromptsDropped
from selfrepair.errors import SelfRepairError

TEXT = "When Mary and John went to the store, John gave a drink to"
TOKENS = ["When", " Mary", " and", " John", " went", " to", " the", " store", ",", " John", " gave", " a", " drink"]


@pytest.fixture(scope="module", params=[False, True], ids=["bare", "front"])
def words(request):
    return tokenizer(front=request.param)


def span_of(words, span, text=TEXT):
    prompts = Prompts.of([Prompt(text, (" Mary",), (" John",), spans={"S2": span})], words)
    front = len(prompts.tokens[0]) - len(words(text, add_special_tokens=False)["input_ids"])
    start, end = prompts.spans[0]["S2"]
    assert words.decode(prompts.tokens[0][start:end]).strip()
    return start - front, end - front


@pytest.mark.parametrize(
    ("span", "tokens"),
    [
        ("Mary", (1, 2)),
        (" Mary", (1, 2)),
        ("When", (0, 1)),
        ("the store", (6, 8)),
        ("store,", (7, 9)),
        ("drink to", (12, 14)),
        ({"text": "John", "nth": 1}, (3, 4)),
        ({"text": "John", "nth": 2}, (9, 10)),
        ({"text": "John", "nth": -1}, (9, 10)),
        ({"text": "Mary", "nth": None}, (1, 2)),
        ({"chars": [TEXT.index("John"), TEXT.index("John") + 4]}, (3, 4)),
        ((3, 4), (3, 4)),
    ],
)
def test_a_span_is_the_tokens_of_its_text(words, span, tokens):
    assert span_of(words, span) == tokens


@pytest.mark.parametrize(
    ("span", "said"),
    [
        ("John", "in its text 2 times; say which"),
        ("Peter", "not in its text"),
        ({"text": "John", "nth": 3}, "number 3 of 'John', which is in its text 2 times"),
        ({"text": "John", "nth": -3}, "number -3"),
        ("oh", "2 times"),
        ("Mar", "not made of whole tokens; there the text is tokenised 'When' ' Mary' ' and'"),
        ("ary", "not made of whole tokens"),
        ("hen Mary", "not made of whole tokens"),
        ({"chars": [0, 400]}, "characters 0 to 400; it has 58"),
        ({"text": "John", "nth": 0}, "was expected"),
        ({"text": "John", "nth": True}, "was expected"),
        ({"word": "John"}, "was expected"),
        ("", "was expected"),
        (7, "was expected"),
    ],
)
def test_what_is_no_span_drops_the_prompt_with_the_reason(words, span, said):
    with pytest.raises(SelfRepairError) as refused:
        span_of(words, span)
    assert said in str(refused.value)


def test_spans_by_text_need_a_text_that_comes_back(words):
    with pytest.raises(SelfRepairError, match="by token ids"):
        Prompts.of([Prompt((3, 4, 5), (6,), (7,), spans={"S": "John"})], words)

    class Lower:
        """Its texts do not come back."""

        def __getattr__(self, name):
            return getattr(words, name)

        def __call__(self, text, **more):
            return words(text, **more)

        def __len__(self):
            return len(words)

        def decode(self, ids, **more):
            return words.decode(ids, **more).lower()

    with pytest.raises(SelfRepairError, match="does not give the prompt's text back"):
        Prompts.of([Prompt(TEXT, (" Mary",), (" John",), spans={"S": "the"})], Lower())


def test_files_have_spans_by_text_and_keep_them(words, tmp_path):
    spans = {"S2": {"text": "John", "nth": 2}, "IO": "Mary", "verb": {"chars": [43, 47]}, "end": [13, 14]}
    row = {"text": TEXT, "answers": [" Mary"], "wrong": [" John"], "spans": spans}
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps({**row, "spans": {"S2": "John"}}) + "\n")
    with pytest.warns(PromptsDropped, match="say which"):
        read = Prompts.read(path, words)
    assert len(read) == 1 and set(read.spans[0]) == set(spans)
    columns = tmp_path / "prompts.parquet"
    pd.DataFrame([row | {"spans": {"S2": {"text": "John", "nth": 2}}}]).to_parquet(columns)
    assert Prompts.read(columns, words).spans[0]["S2"] == read.spans[0]["S2"]


def test_long_texts_take_no_quadratic_time(words):
    text = " the" * 20_000 + " store"
    start = time.process_time()
    prompts = Prompts.of([Prompt(text, (" Mary",), (" John",), spans={"S": "store"})], words)
    assert prompts.spans[0]["S"][1] == len(prompts.tokens[0]) and time.process_time() - start < 20
