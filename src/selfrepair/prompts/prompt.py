"""One prompt as its author has it, before any tokenizer; and what becomes of those that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Answer = str | int | tuple[int, ...]
"""A continuation of the prompt, with its leading space; or its token id; or several ids."""

Span = tuple[int, int] | str | Mapping[str, object]
"""A stretch of the prompt: [start, end) in tokens, its text, `{"text": "John", "nth": 2}` or `{"chars": (0, 4)}`."""


@dataclass(frozen=True)
class Prompt:
    """A prompt with its right answers and, where there are some, its wrong ones and its corrupted twin.

    Example:
        >>> prompt = Prompt("When A and B went home, B gave it to ", answers=("A",), wrong=("B",))
        >>> Prompts.of([prompt], model).answers
        ((40,),)

    Attributes:
        text: what the model reads, or its token ids.
        answers: right continuations, as texts (with the space in front, `" Mary"`) or token ids.
        wrong: continuations to compare them with; none for the answers' centred logit.
        corrupt: the twin that ablations take their replacements from, as text or token ids.
        id: how results call it; its place, from 1 on, where none is given.
        group: what it was made from, such as its template; prompts of one group are no independent samples.
        position: of the token after which the answer is expected. Counted from 0 in the text's own tokens,
            or in the ids as given, without what is put in front; negative ones from the prompt's end.
        spans: named stretches: [start, end) in tokens, counted as positions are; or a text that stands in the prompt
            once, `{"text": "John", "nth": 2}`, or `{"chars": (start, end)}`, which have to be whole tokens.
        weight: how much it counts in means.
    """

    text: str | tuple[int, ...]
    answers: tuple[Answer, ...] = ()
    wrong: tuple[Answer, ...] = ()
    corrupt: str | tuple[int, ...] | None = None
    id: str = ""
    group: str = ""
    position: int = -1
    spans: Mapping[str, Span] = field(default_factory=dict)
    weight: float = 1.0


@dataclass(frozen=True)
class Dropped:
    """A prompt that was left out.

    Attributes:
        id: which.
        reason: why, in a sentence.
    """

    id: str
    reason: str


class Unusable(Exception):
    """A prompt that cannot be used; says why, and what would help."""


class PromptsDropped(UserWarning):
    """Some prompts were left out; `Prompts.dropped` says which and why.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as seen:
        ...     warnings.simplefilter("always", PromptsDropped)
        ...     kept = Prompts.of([Prompt("1, 2, ", ("3",)), Prompt("1, 2, ", ("34",))], model)
        >>> len(kept), [dropped.id for dropped in kept.dropped], len(seen)
        (1, ['2'], 1)
    """
