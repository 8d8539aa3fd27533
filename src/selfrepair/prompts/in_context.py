"""Prompts to tokens: answers are tokenised where they stand, behind the prompt; nothing is guessed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from selfrepair.prompts.prompt import Answer, Prompt, Unusable
from selfrepair.prompts.text_spans import token_span
from selfrepair.prompts.vocabulary import LONGEST, Vocabulary

_SHOWN = 6  # tokens around the place where two tokenisations part

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Encoded:
    """A prompt in token ids, with what is put in front.

    Attributes:
        tokens: what the model reads.
        corrupt: the twin, as many; None without one.
        answers: first tokens of right answers.
        wrong: of wrong ones.
        position: of the token after which the answer is expected, from 0.
        spans: named stretches [start, end) of `tokens`.
        text: the prompt as text; empty where its ids cannot be decoded.
        unequal: the number of tokens of a twin that has another length, which is left out; None otherwise.
    """

    tokens: Ids
    corrupt: Ids | None
    answers: Ids
    wrong: Ids
    position: int
    spans: Mapping[str, tuple[int, int]]
    text: str
    unequal: int | None = None


def encoded(prompt: Prompt, vocabulary: Vocabulary, first_token: bool = False) -> Encoded:
    """A prompt's tokens.

    Args:
        prompt: as its author has it.
        vocabulary: of the model.
        first_token: whether answers may have several tokens. What all of them begin with is then put behind the
            prompt (and its twin), and their next tokens are compared.

    Raises:
        Unusable: saying why.
    """
    own, front = _tokens(prompt.text, vocabulary)
    tokens = vocabulary.prefix[:front] + own
    if not own:
        raise Unusable("It has no tokens.")
    position = _position(prompt.position, len(own))
    twin = None
    if prompt.corrupt is not None:
        other, other_front = _tokens(prompt.corrupt, vocabulary)
        twin = vocabulary.prefix[:other_front] + other
    sides = [[_continuation(prompt, own, position, answer, vocabulary) for answer in side] for side in _sides(prompt)]
    common = _common(sides, vocabulary, first_token)
    if common and position != len(own) - 1:
        raise Unusable("Its answers begin with the same tokens, which fit only behind its last one.")
    answers, wrong = (tuple(dict.fromkeys(ids[len(common)] for ids in side)) for side in sides)
    if both := set(answers) & set(wrong):
        raise Unusable(f"{vocabulary.pieces(sorted(both))} is the token of a right and of a wrong answer.")
    vocabulary.require_length(len(tokens + common))
    unequal = None if twin is None or len(twin) == len(tokens) else len(twin)
    return Encoded(
        tokens=tokens + common,
        corrupt=None if twin is None or unequal is not None else twin + common,
        answers=answers,
        wrong=wrong,
        position=front + position + len(common),
        spans={
            name: _span(name, token_span(name, span, prompt.text, own, vocabulary), len(own), front)
            for name, span in prompt.spans.items()
        },
        text=_text(prompt.text, tokens, common, vocabulary),
        unequal=unequal,
    )


def _sides(prompt: Prompt) -> tuple[tuple[Answer, ...], tuple[Answer, ...]]:
    if prompt.wrong and not prompt.answers:
        raise Unusable("It has wrong answers and no right one.")
    return prompt.answers, prompt.wrong


def _tokens(text: str | Sequence[int], vocabulary: Vocabulary) -> tuple[Ids, int]:
    """Token ids, and how many are to be put in front: none of ids that have them already."""
    if isinstance(text, str):
        return vocabulary.encode(text), len(vocabulary.prefix)
    if len(text) > LONGEST:
        raise Unusable(f"It has {len(text):,} tokens; at most {LONGEST:,} are read.")
    ids = tuple(map(int, text))
    vocabulary.require(ids)
    vocabulary.require_unpadded(ids)
    present = len(vocabulary.prefix) > 0 and ids[: len(vocabulary.prefix)] == vocabulary.prefix
    return ids, 0 if present else len(vocabulary.prefix)


def _position(position: int, length: int) -> int:
    """A position from 0 on, without what is put in front."""
    if not -length <= position < length:
        raise Unusable(f"It has {length} tokens; its answer was to be read at position {position}.")
    return position % length


def _span(name: str, span: tuple[int, int], length: int, front: int) -> tuple[int, int]:
    start, end = span
    if not 0 <= start < end <= length:
        raise Unusable(f"Its span {name!r} is [{start}, {end}); it has tokens 0 to {length - 1}.")
    return start + front, end + front


def _continuation(prompt: Prompt, own: Ids, position: int, answer: Answer, vocabulary: Vocabulary) -> Ids:
    """The tokens of an answer, where it stands."""
    if not isinstance(answer, str):
        ids = (answer,) if isinstance(answer, int) else tuple(map(int, answer))
        if not ids:
            raise Unusable("An answer has no tokens.")
        vocabulary.require(ids)
        return ids
    before = own[: position + 1]
    if isinstance(prompt.text, str) and len(before) == len(own):
        context = prompt.text
    else:
        start = vocabulary.prefix if before[: len(vocabulary.prefix)] == vocabulary.prefix else ()
        before = before[len(start) :]
        context = vocabulary.decode(before)
        if vocabulary.encode(context) != before:
            raise Unusable(
                "Its token ids are not those that the tokenizer gives their text, so that the answer "
                f"{answer!r} cannot be tokenised behind them. Give the answer's token id."
            )
    return _behind(context, before, answer, vocabulary)


def _behind(context: str, before: Ids, answer: str, vocabulary: Vocabulary) -> Ids:
    """The tokens of an answer behind a text."""
    if not answer:
        raise Unusable("An answer is empty.")
    if _joins(context, answer):
        raise Unusable(
            f"The answer {answer!r} would go on with the word {context.split()[-1]!r}. Write {f' {answer}'!r}, with "
            "the space in front; or give its token id."
        )
    whole = vocabulary.encode(context + answer)
    if whole[: len(before)] != before:
        same = len(_common_start([whole, before]))
        parts = slice(same, same + _SHOWN)
        way = " Put the space at the text's end into the answer." if context[-1:].isspace() else ""
        raise Unusable(
            f"The answer {answer!r} changes how the text before it is tokenised: alone it ends "
            f"{vocabulary.pieces(before[parts])}, with the answer {vocabulary.pieces(whole[parts])}.{way}"
        )
    if len(whole) == len(before):
        raise Unusable(f"The answer {answer!r} has no tokens.")
    return whole[len(before) :]


def _joins(context: str, answer: str) -> bool:
    """Whether an answer lacks its space: letters of an alphabet that writes words apart on both sides."""
    return context[-1:].isascii() and context[-1:].isalpha() and answer[0].isascii() and answer[0].isalpha()


def _common(sides: list[list[Ids]], vocabulary: Vocabulary, first_token: bool) -> Ids:
    """What all answers begin with, and is put behind the prompt; nothing where each is one token."""
    every = [ids for side in sides for ids in side]
    longest = max(every, key=len, default=())
    if len(longest) <= 1:
        return ()
    if not first_token:
        raise Unusable(
            f"The answer {_written(longest, vocabulary)} is {len(longest)} tokens ({vocabulary.pieces(longest)}); one "
            "is measured. Take answers of one token, or first_token=True (--first-token): the first token after what "
            "all answers begin with."
        )
    common = tuple(_common_start(every)) if len(set(every)) > 1 else ()
    if any(len(ids) == len(common) for ids in every):
        raise Unusable(f"The answer {vocabulary.pieces(common)} is the beginning of another one.")
    return common


def _written(ids: Ids, vocabulary: Vocabulary) -> str:
    try:
        return repr(vocabulary.decode(ids))
    except Unusable:
        return str(list(ids))


def _common_start(rows: Iterable[Ids]) -> list[int]:
    return [column[0] for column in takewhile(lambda ids: len(set(ids)) == 1, zip(*rows, strict=False))]


def _text(text: str | Sequence[int], tokens: Ids, common: Ids, vocabulary: Vocabulary) -> str:
    """What is shown of the prompt."""
    try:
        if isinstance(text, str):
            return text + (vocabulary.decode(common) if common else "")
        return vocabulary.decode(tokens + common)
    except Unusable:
        return text if isinstance(text, str) else ""
