"""Spans given by their text or their characters: found in the prompt, and resolved to whole tokens in context."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

from selfrepair.prompts.prompt import Span, Unusable
from selfrepair.prompts.vocabulary import Vocabulary

WRITE = '"John", {"text": "John", "nth": 2}, {"chars": [start, end]} or, in tokens, [start, end]'
_SHOWN = 3  # tokens around a span that are shown where it does not fit


def checked_span(name: str, span: object) -> Span:
    """A span as it may be given.

    Args:
        name: of the span.
        span: two token places, a text, or a mapping with `text` and perhaps `nth` (counted from 1, negative ones from
            the last), or with `chars`.

    Raises:
        Unusable: it is something else.
    """
    if isinstance(span, str) and span:
        return span
    if isinstance(span, Mapping):
        given = {key: value for key, value in span.items() if value is not None}  # Parquet has every key in every row
        if set(given) == {"chars"} and (pair := _pair(given["chars"])) is not None:
            return {"chars": pair}
        nth = given.get("nth", 1)
        text = given.get("text")
        if set(given) <= {"text", "nth"} and isinstance(text, str) and text and type(nth) is int and nth:
            return given
    pair = _pair(span)
    if pair is None:
        raise Unusable(f"Its span {name!r} is {span!r:.60}; {WRITE} was expected.")
    return pair


def _pair(value: object) -> tuple[int, int] | None:
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(type(one) is int for one in value):
        return None
    return value[0], value[1]


def token_span(
    name: str, span: Span, text: str | Sequence[int], own: tuple[int, ...], vocabulary: Vocabulary
) -> tuple[int, int]:
    """A span [start, end) in the prompt's own tokens.

    Args:
        name: of the span.
        span: as given.
        text: the prompt, as text or ids.
        own: its token ids, without what is put in front.
        vocabulary: of the model.

    Raises:
        Unusable: the text is not there, or several times, or is not made of whole tokens. White space in front of it
            may belong to its first token.
    """
    span = checked_span(name, span)
    if isinstance(span, tuple):
        return span
    if not isinstance(text, str):
        raise Unusable(f"Its span {name!r} is given by text, and the prompt by token ids. Give [start, end) in tokens.")
    start, end = _characters(name, span, text)
    if vocabulary.decode(own) != text:
        raise Unusable(
            f"Its span {name!r} cannot be found by text: the tokenizer does not give the prompt's text back. "
            "Give [start, end) in tokens."
        )

    def letters(count: int) -> int:
        return len(vocabulary.decode(own[:count]))

    counts = range(len(own) + 1)
    last = bisect_left(counts, end, key=letters)
    first = _start(text, start, own, vocabulary, bisect_right(counts, start, key=letters) - 1)
    if first is None or vocabulary.decode(own[:last]) != text[:end] or first >= last:
        middle = bisect_right(counts, start, key=letters)
        shown = vocabulary.pieces(own[max(0, middle - _SHOWN) : last + _SHOWN - 1])
        raise Unusable(
            f"Its span {name!r} is {text[start:end]!r}, which is not made of whole tokens; there the text is tokenised "
            f"{shown}."
        )
    return first, last


def _start(text: str, start: int, own: tuple[int, ...], vocabulary: Vocabulary, count: int) -> int | None:
    """How many tokens are before the span; its first one may begin with white space."""
    before = vocabulary.decode(own[:count])
    return count if text.startswith(before) and not text[len(before) : start].strip() else None


def _characters(name: str, span: str | Mapping[str, object], text: str) -> tuple[int, int]:
    if isinstance(span, Mapping) and "chars" in span:
        pair = _pair(span["chars"])
        assert pair is not None  # by `checked_span`
        start, end = pair
        if not 0 <= start < end <= len(text):
            raise Unusable(f"Its span {name!r} is characters {start} to {end}; it has {len(text)}.")
        return start, end
    wanted = span if isinstance(span, str) else str(span["text"])
    nth = None if isinstance(span, str) else span.get("nth")
    places = _occurrences(wanted, text)
    if not places:
        raise Unusable(f"Its span {name!r} is {wanted!r}, which is not in its text.")
    if nth is None and len(places) > 1:
        way = '{"text": …, "nth": 1}'
        raise Unusable(f"Its span {name!r} is {wanted!r}, which is in its text {len(places)} times; say which: {way}.")
    number = 1 if nth is None else int(str(nth))
    if abs(number) > len(places):
        raise Unusable(f"Its span {name!r} is number {number} of {wanted!r}, which is in its text {len(places)} times.")
    start = places[number - 1 if number > 0 else number]
    return start, start + len(wanted)


def _occurrences(wanted: str, text: str) -> list[int]:
    """Where a text begins in another, overlaps left out."""
    places, start = [], text.find(wanted)
    while start >= 0:
        places.append(start)
        start = text.find(wanted, start + len(wanted))
    return places
