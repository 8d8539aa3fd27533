"""Prompts with two names, one of which is wanted: "When Mary and John went to the store, John gave a ring to"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from selfrepair.bench.made_prompts import prompts_of
from selfrepair.errors import SelfRepairError
from selfrepair.prompts.prompts import Prompts

TEMPLATES = (
    "When {io} and {s} went to the {place}, {again} gave a {thing} to",
    "Then, {io} and {s} had a lot of fun at the {place}. {again} gave a {thing} to",
    "After {io} and {s} came back from the {place}, {again} handed a {thing} to",
    "While {io} and {s} were waiting at the {place}, {again} passed a {thing} to",
    "Yesterday {io} and {s} met at the {place}, and {again} showed a {thing} to",
)
NAMES = ("John", "Mary", "Tom", "James", "Paul", "Mark", "David", "Peter", "Sarah", "Anna", "Michael", "Robert")
PLACES = ("store", "park", "school", "office", "garden", "station")
THINGS = ("drink", "book", "ring", "snack", "bone", "letter")
_LEAST_NAMES = 5


@dataclass(frozen=True)
class Words:
    """What templates are filled with.

    Attributes:
        names: of people.
        places: where they are.
        things: what changes hands.
    """

    names: Sequence[str] = NAMES
    places: Sequence[str] = PLACES
    things: Sequence[str] = THINGS

    def of_one_token(self, tokenizer: Any) -> Words:
        """Words that are one token behind a space, so that prompts of a template are of one length.

        Raises:
            SelfRepairError: too few are.
        """
        names, places, things = (
            [word for word in words if len(tokenizer(f" {word}", add_special_tokens=False).input_ids) == 1]
            for words in (self.names, self.places, self.things)
        )
        if len(names) < _LEAST_NAMES or not places or not things:
            raise SelfRepairError(
                f"Prompts with two names need at least {_LEAST_NAMES} names, a place and a thing of one token each; "
                f"this tokenizer has {len(names)}, {len(places)} and {len(things)} of ours.",
                "Take a model with an English vocabulary of words.",
            )
        return Words(names, places, things)


def ioi_prompts(tokenizer: Any, template: str, number: int, seed: int, words: Words | None = None) -> Prompts:
    """Prompts of one template, with twins in which three other names stand.

    Args:
        tokenizer: the model's.
        template: one of `TEMPLATES`, or another with the same fields.
        number: how many.
        seed: of the draws.
        words: what it is filled with.

    Raises:
        SelfRepairError: a tokenizer that does not take words as single tokens.
    """
    words, rng = (words or Words()).of_one_token(tokenizer), np.random.default_rng(seed)
    texts, twins, pairs = [], [], []
    for _ in range(number):
        one, other = rng.choice(words.names, 2, replace=False)
        rest = {"place": rng.choice(words.places), "thing": rng.choice(words.things)}
        third, fourth, fifth = rng.choice([name for name in words.names if name not in (one, other)], 3, replace=False)
        texts.append(template.format(io=one, s=other, again=other, **rest))
        twins.append(template.format(io=third, s=fourth, again=fifth, **rest))
        pairs.append((str(one), str(other)))
    return tokenised(tokenizer, texts, pairs, template, twins)


def tokenised(
    tokenizer: Any,
    texts: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    group: str,
    twins: Sequence[str] | None = None,
    bos: bool = True,
) -> Prompts:
    """Texts as token ids, with the right and the wrong name as answers.

    Args:
        tokenizer: the model's.
        texts: the prompts.
        pairs: of each, the right name and the wrong one.
        group: of all of them.
        twins: of each.
        bos: whether with what the tokenizer puts in front.

    Raises:
        SelfRepairError: texts of several lengths, or a name that is not one token behind a text.
    """
    ids = [_ids(tokenizer, text, bos) for text in [*texts, *(twins or [])]]
    if len(set(map(len, ids))) != 1:
        raise SelfRepairError(
            f"Prompts of one template should have as many tokens each; these have {len(min(ids, key=len))} to "
            f"{len(max(ids, key=len))}.",
            "Take a model whose tokenizer has these words as single tokens.",
        )
    answers, wrong = (
        [_next(tokenizer, text, f" {pair[side]}") for text, pair in zip(texts, pairs, strict=True)] for side in (0, 1)
    )
    table = np.array(ids, np.int64)
    return prompts_of(
        table[: len(texts)],
        answers,
        wrong,
        groups=[group] * len(texts),
        corrupt=table[len(texts) :] if twins else None,
        texts=texts,
    )


def _ids(tokenizer: Any, text: str, special: bool) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=special).input_ids
    return ids


def _next(tokenizer: Any, text: str, answer: str) -> tuple[int]:
    """The token of an answer where it stands."""
    before, whole = (_ids(tokenizer, some, False) for some in (text, text + answer))
    if whole[:-1] != before:
        raise SelfRepairError(
            f"{answer!r} is not one token behind {text!r}.", "Take a model whose tokenizer has names as single tokens."
        )
    return (whole[-1],)
