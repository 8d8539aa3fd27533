"""AutoCircuit's JSON: `{"prompts": [{"clean", "corrupt", "answers", "wrong_answers"}], "word_idxs": {…}}`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from selfrepair.errors import SelfRepairError
from selfrepair.prompts.formats.content import Content, Row
from selfrepair.prompts.formats.foreign import Foreign
from selfrepair.prompts.formats.own import answer_of, token_ids
from selfrepair.prompts.formats.read import Wishes, each_row
from selfrepair.prompts.prompt import Answer, Dropped, Prompt, Unusable
from selfrepair.prompts.vocabulary import Vocabulary


def detect(content: Content) -> bool:
    """See `Format`."""
    return isinstance(content.document, dict) and isinstance(content.document.get("prompts"), list)


def read(content: Content, wishes: Wishes) -> Iterator[Prompt | Dropped]:
    """See `Format`. Its positions (`word_idxs`) count tokens without what stands in front, as ours do."""
    rows = content.document.get("prompts") if isinstance(content.document, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SelfRepairError(f"{content.name} has no list of prompts.", "AutoCircuit's files have one under prompts.")
    in_ids = any(isinstance(row.get("clean"), list) for row in rows)
    foreign = Foreign(wishes, content.name) if wishes.ids_of is not None or _mixed(rows) else None
    if in_ids and foreign is None:
        wishes.facts["token_ids"] = "taken for the model's own"
    prompts = list(each_row(replace(content, rows=rows), wishes, lambda row: _prompt(row, foreign)))
    return iter(_with_spans(prompts, content.document, wishes))


def _mixed(rows: list[Row]) -> bool:
    """Whether texts have answers in token ids."""
    return any(
        isinstance(row.get("clean"), str) and any(type(answer) is int for answer in _side(row, "answers"))
        for row in rows
    )


def _side(row: Row, name: str) -> list[Any]:
    value = row.get(name, [])
    return value if isinstance(value, list) else [value]


def _prompt(row: Row, foreign: Foreign | None) -> Prompt:
    sides = [
        tuple(_answer(answer, name, foreign) for answer in _side(row, name)) for name in ("answers", "wrong_answers")
    ]
    corrupt = None if row.get("corrupt") is None else _text(row["corrupt"], "corrupt", foreign)
    return Prompt(_text(row.get("clean"), "clean", foreign), sides[0], sides[1], corrupt)


def _answer(value: object, name: str, foreign: Foreign | None) -> Answer:
    return foreign.text(value) if foreign is not None and type(value) is int else answer_of(value, name)


def _text(value: object, name: str, foreign: Foreign | None) -> str | tuple[int, ...]:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and isinstance(value[0], list):
        raise Unusable(f"Its {name} is a matrix of numbers, the input of a micro model without a vocabulary.")
    ids = token_ids(value, name)
    return ids if foreign is None else "".join(map(foreign.text, ids))


def _with_spans(prompts: list[Prompt | Dropped], document: dict[str, Any], wishes: Wishes) -> list[Prompt | Dropped]:
    """Prompts with the file's positions, as far as they have the number of tokens that these were counted for."""
    words = document.get("word_idxs") or {}
    if not isinstance(words, dict) or not all(type(index) is int for index in words.values()):
        raise SelfRepairError("word_idxs is no mapping of names to positions.", "Take the file again.")
    if not words:
        return prompts
    vocabulary = wishes.vocabulary()
    counted = {index: _tokens(prompt, vocabulary) for index, prompt in enumerate(prompts) if isinstance(prompt, Prompt)}
    labels = document.get("seq_labels")
    length = len(labels) if isinstance(labels, list) else words["end"] + 1 if "end" in words else None
    if length is None and len(set(counted.values())) == 1:
        length = next(iter(counted.values()))
    moved = [index for index, count in counted.items() if count != length]
    if moved:
        wishes.facts["spans_left_out"] = (
            f"{len(moved)} of {len(counted)} prompts have another number of tokens than word_idxs was counted for"
        )
    spans = {str(name): (index, index + 1) for name, index in words.items()}
    return [
        replace(prompt, spans=spans) if isinstance(prompt, Prompt) and index not in moved else prompt
        for index, prompt in enumerate(prompts)
    ]


def _tokens(prompt: Prompt, vocabulary: Vocabulary) -> int:
    try:
        return len(vocabulary.encode(prompt.text) if isinstance(prompt.text, str) else prompt.text)
    except Unusable:
        return -1
