"""Indirect-object-identification prompts: 15 templates in both orders, with names that are single tokens.

After Wang et al. 2022 (arXiv 2211.00593); places and objects vary, names are checked against the tokenizer. Unlike in
the paper authors' generator, the two names of a prompt can never be the same (docs/methods.md 5.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from selfrepair.errors import SelfRepairError

# [A] and [B] are the two names; the second clause's first name is the subject, and the prompt ends before the other.
TEMPLATES = (
    "Then, [B] and [A] went to the [PLACE]. [B] gave a [OBJECT] to",
    "Then, [B] and [A] had a lot of fun at the [PLACE]. [B] gave a [OBJECT] to",
    "Then, [B] and [A] were working at the [PLACE]. [B] decided to give a [OBJECT] to",
    "Then, [B] and [A] were thinking about going to the [PLACE]. [B] wanted to give a [OBJECT] to",
    "Then, [B] and [A] had a long argument, and afterwards [B] said to",
    "After [B] and [A] went to the [PLACE], [B] gave a [OBJECT] to",
    "When [B] and [A] got a [OBJECT] at the [PLACE], [B] decided to give it to",
    "When [B] and [A] got a [OBJECT] at the [PLACE], [B] decided to give the [OBJECT] to",
    "While [B] and [A] were working at the [PLACE], [B] gave a [OBJECT] to",
    "While [B] and [A] were commuting to the [PLACE], [B] gave a [OBJECT] to",
    "After the lunch, [B] and [A] went to the [PLACE]. [B] gave a [OBJECT] to",
    "Afterwards, [B] and [A] went to the [PLACE]. [B] gave a [OBJECT] to",
    "Then, [B] and [A] had a long argument. Afterwards [B] said to",
    "The [PLACE] [B] and [A] went to had a [OBJECT]. [B] gave it to",
    "Friends [B] and [A] found a [OBJECT] at the [PLACE]. [B] gave it to",
)
PLACES = ("store", "garden", "restaurant", "school", "hospital", "office", "house", "station")
OBJECTS = ("ring", "kiss", "bone", "basketball", "computer", "necklace", "drink", "snack")
NAMES = (
    "Mary", "John", "Tom", "James", "Anna", "Michael", "Robert", "David", "Richard", "Thomas", "Charles", "Daniel",
    "Matthew", "Mark", "Paul", "Steven", "Andrew", "Kevin", "Brian", "George", "Edward", "Jason", "Jeff", "Ryan",
    "Jacob", "Gary", "Eric", "Stephen", "Scott", "Justin", "Brandon", "Frank", "Gregory", "Samuel", "Patrick",
    "Jack", "Alex", "Jerry", "Adam", "Nathan", "Henry", "Peter", "Kyle", "Sarah", "Karen", "Lisa", "Susan",
    "Jennifer", "Laura", "Amy", "Emily", "Emma", "Rachel", "Alice", "Jane", "Anne", "Kate", "Ruth", "Helen",
    "Maria", "Martin", "Simon", "William", "Joseph", "Christopher", "Anthony", "Lewis", "Arthur", "Albert",
    "Louis",
)  # fmt: skip
ORDERS = ("ABBA", "BABA")


@dataclass(frozen=True)
class IoiPrompts:
    """Prompts with their corrupted twins.

    Attributes:
        tokens: [prompt, position], padded on the right.
        corrupted: the same with three fresh names, so that nothing reveals the answer.
        end: [prompt], the last real position, whose next token is predicted.
        indirect: [prompt], the right name's token; subject: the other's.
        template: [prompt], which of `TEMPLATES`.
        order: [prompt], which of `ORDERS`.
        texts: [prompt].
    """

    tokens: np.ndarray
    corrupted: np.ndarray
    end: np.ndarray
    indirect: np.ndarray
    subject: np.ndarray
    template: np.ndarray
    order: np.ndarray
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.tokens)


def make_prompts(tokenizer: Any, each: int = 2, seed: int = 0) -> IoiPrompts:
    """Prompts of every template in both orders.

    Args:
        tokenizer: names are those that it writes, after a space, as one token.
        each: prompts per template and order.
        seed: random seed for names, places and objects.

    Raises:
        SelfRepairError: fewer than five names are single tokens.
    """
    names = {name: ids[0] for name in NAMES if len(ids := _encode(tokenizer, " " + name)) == 1}
    if len(names) < 5:
        raise SelfRepairError(
            f"Only {len(names)} of {len(NAMES)} common names are single tokens of this tokenizer; five are needed.",
            "Leave the indirect-object experiments out for this model.",
        )
    draws = np.random.default_rng(seed)
    start = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
    rows: list[tuple[list[int], list[int], int, int, int, int, str]] = []
    for number, template in enumerate(TEMPLATES):
        for order in range(len(ORDERS)):
            for _ in range(each):
                rows.append(_prompt(tokenizer, template, number, order, names, draws, start))
    length = max(len(row[0]) for row in rows)

    def padded(ids: list[int]) -> list[int]:
        return ids + [0] * (length - len(ids))

    return IoiPrompts(
        tokens=np.array([padded(row[0]) for row in rows], np.int64),
        corrupted=np.array([padded(row[1]) for row in rows], np.int64),
        end=np.array([len(row[0]) - 1 for row in rows], np.int64),
        indirect=np.array([row[2] for row in rows], np.int64),
        subject=np.array([row[3] for row in rows], np.int64),
        template=np.array([row[4] for row in rows], np.int64),
        order=np.array([row[5] for row in rows], np.int64),
        texts=tuple(row[6] for row in rows),
    )


def _prompt(
    tokenizer: Any,
    template: str,
    number: int,
    order: int,
    names: dict[str, int],
    draws: np.random.Generator,
    start: list[int],
) -> tuple[list[int], list[int], int, int, int, int, str]:
    """A prompt, its corrupted twin, its answer, and its template and order."""
    drawn = [str(name) for name in draws.choice(sorted(names), 5, replace=False)]
    text = template.replace("[PLACE]", str(draws.choice(PLACES))).replace("[OBJECT]", str(draws.choice(OBJECTS)))
    indirect, subject = drawn[:2]
    clean = _fill(text, indirect, subject, subject, order)
    twin = _fill(text, drawn[2], drawn[3], drawn[4], order)
    ids, corrupted = (start + _encode(tokenizer, filled) for filled in (clean, twin))
    if len(ids) != len(corrupted):  # a name at the very start may take more tokens than after a space
        raise SelfRepairError(f"'{clean}' and its corrupted twin differ in length.", "Use another tokenizer.")
    return ids, corrupted, names[indirect], names[subject], number, order, clean


def _fill(text: str, indirect: str, first: str, again: str, order: int) -> str:
    """The text with its names: `ABBA` puts the indirect object first, `BABA` the subject."""
    before, after = text.split("[B]", 1)
    middle, end = after.split("[A]", 1)
    left, right = (indirect, first) if ORDERS[order] == "ABBA" else (first, indirect)
    return (before + left + middle + right + end).replace("[B]", again)


def _encode(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
