"""Our own format: JSON lines, Parquet, or a JSON list, one prompt each; what every other format is turned into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from selfrepair.prompts.formats.content import Content
from selfrepair.prompts.formats.read import Wishes, each_row
from selfrepair.prompts.prompt import Answer, Dropped, Prompt, Span, Unusable
from selfrepair.prompts.text_spans import checked_span

KEYS = (
    *("id", "group", "text", "tokens", "corrupt", "corrupt_tokens"),
    *("answers", "wrong", "position", "spans", "weight"),
)


def detect(content: Content) -> bool:
    """See `Format`."""
    return content.suffix != ".csv" and ("text" in content.columns or "tokens" in content.columns)


def read(content: Content, wishes: Wishes) -> Iterator[Prompt | Dropped]:
    """See `Format`."""
    wishes.refuse_unused()
    return each_row(content, wishes, prompt_of)


def prompt_of(row: Mapping[str, Any]) -> Prompt:
    """A prompt from one row.

    Raises:
        Unusable: a value of another type, or a key that there is not.
    """
    given = {name: value for name, value in row.items() if value is not None}
    unknown = sorted(map(str, set(given) - set(KEYS)))
    if unknown:
        raise Unusable(f"It has the key {unknown[0]!r}; keys are {', '.join(KEYS)}.")
    text = _text(given, "text", "tokens")
    if text is None:
        raise Unusable("It has neither text nor tokens.")
    position = given.get("position", -1)
    weight = given.get("weight", 1.0)
    if not isinstance(position, int) or isinstance(position, bool):
        raise Unusable(f"Its position is {position!r:.40}, no whole number.")
    if not isinstance(weight, int | float) or isinstance(weight, bool):
        raise Unusable(f"Its weight is {weight!r:.40}, no number.")
    return Prompt(
        text=text,
        answers=_answers(given, "answers"),
        wrong=_answers(given, "wrong"),
        corrupt=_text(given, "corrupt", "corrupt_tokens"),
        id=str(given.get("id", "")),
        group=str(given.get("group", "")),
        position=position,
        spans=_spans(given.get("spans", {})),
        weight=float(weight),
    )


def _text(row: Mapping[str, Any], text: str, tokens: str) -> str | tuple[int, ...] | None:
    if text in row and tokens in row:
        raise Unusable(f"It has both {text} and {tokens}, which may contradict each other. Keep one.")
    value = row.get(text, row.get(tokens))
    if value is None or (text in row and isinstance(value, str)):
        return value
    if text in row:
        raise Unusable(f"Its {text} is no text.")
    return token_ids(value, tokens)


def token_ids(value: object, name: str) -> tuple[int, ...]:
    """A list of whole numbers.

    Raises:
        Unusable: it is something else.
    """
    if not isinstance(value, list | tuple) or not all(type(entry) is int for entry in value):
        raise Unusable(f"Its {name} are no list of token ids.")
    return tuple(value)


def _answers(row: Mapping[str, Any], name: str) -> tuple[Answer, ...]:
    value = row.get(name, [])
    if isinstance(value, str):
        raise Unusable(f'Its {name} are a text; a list was expected: ["{value}"].')
    if not isinstance(value, list | tuple):
        raise Unusable(f"Its {name} are no list.")
    return tuple(answer_of(entry, name) for entry in value)


def answer_of(value: object, name: str) -> Answer:
    """An answer from JSON: a text, a token id, or several.

    Raises:
        Unusable: it is something else.
    """
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    return token_ids(value, name)


def _spans(value: object) -> dict[str, Span]:
    pairs = value
    if isinstance(value, list):  # Parquet has maps as lists of pairs
        pairs = dict(value) if all(isinstance(entry, tuple) and len(entry) == 2 for entry in value) else None
    if not isinstance(pairs, dict):
        raise Unusable('Its spans are expected as {"S2": [start, end]}.')
    spans: dict[str, Span] = {}
    for name, span in pairs.items():
        if span is None:  # Parquet has every row's names in every row
            continue
        spans[str(name)] = checked_span(str(name), span)
    return spans
