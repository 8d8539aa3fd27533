"""Places that prompts have in common, whatever their lengths: named spans, or distances from the answer's position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from selfrepair.prompts.prompts import Prompts
from selfrepair.questions.measuring.prompt_effects import Array
from selfrepair.terminal import plain


@dataclass(frozen=True, eq=False)
class Places:
    """Places in every prompt.

    Attributes:
        names: what they are called.
        members: which positions each has, bool [place, prompt, position].
    """

    names: tuple[str, ...]
    members: np.ndarray

    def sums(self, values: Array) -> Array:
        """Sums over each place's positions [place, prompt], of values [prompt, position]."""
        return np.asarray(np.einsum("kps,ps->kp", self.members.astype(np.float64), values))

    def tokens(self, texts: tuple[tuple[str, ...], ...]) -> list[str]:
        """The text of each place where it is the same in all prompts; empty elsewhere."""
        found = []
        for members in self.members:
            every = {
                "".join(text for text, inside in zip(some, row, strict=False) if inside)
                for some, row in zip(texts, members, strict=True)
            }
            found.append(every.pop() if len(every) == 1 else "")
        return found


def places_of(prompts: Prompts) -> Places:
    """Named spans that all prompts have, and beside them the first token, the answer's position, and all the rest.

    Without a span in common, the tokens that are the right or the wrong answer, where all prompts hold them equally
    often (names in "Mary and John ... John gave it to"); without those, distances from the answer's position.
    """
    spans = prompts.spans if _common(prompts.spans) else _answers_within(prompts)
    names = _common(spans)
    real = np.arange(prompts.tokens.shape[1]) < np.asarray(prompts.lengths)[:, None]
    chosen = _by_span(prompts, spans, names, real) if names else _by_distance(prompts, real)
    rest = real & ~np.any(list(chosen.values()), axis=0)
    if rest.any():
        chosen["elsewhere"] = rest
    return Places(tuple(chosen), np.stack(list(chosen.values())))


Spans = Sequence[Mapping[str, tuple[int, int]]]


def _common(spans: Spans) -> list[str]:
    """Names that all prompts have."""
    return [name for name in (spans[0] if spans else ()) if all(name in one for one in spans)]


def _answers_within(prompts: Prompts) -> Spans:
    """By prompt, where its right and wrong answers stand in it already: `answer`, `wrong answer`, numbered if several
    times; nothing where prompts differ in how often they do."""
    found: list[dict[str, tuple[int, int]]] = [{} for _ in range(len(prompts))]
    for name, sides in (("answer", prompts.answers), ("wrong answer", prompts.wrong)):
        places = [
            [place for place in range(int(length)) if int(row[place]) in side]
            for row, length, side in zip(prompts.tokens, prompts.lengths, sides, strict=True)
        ]
        counts = {len(some) for some in places}
        if len(counts) == 1 and counts != {0}:
            for spans, some in zip(found, places, strict=True):
                for number, place in enumerate(some):
                    spans[name if len(some) == 1 else f"{name} ({number + 1})"] = (place, place + 1)
    return found


def _by_span(prompts: Prompts, spans: Spans, names: list[str], real: np.ndarray) -> dict[str, np.ndarray]:
    """Positions of spans, then of the first token and of the answer where no span has them."""
    positions = np.arange(real.shape[1])
    chosen = {}
    for name in names:
        start, end = np.array([one[name] for one in spans])[:, :2].T
        chosen[name] = (positions >= start[:, None]) & (positions < end[:, None]) & real
    for name, place in (("first token", np.zeros(len(real), np.int64)), ("answer position", prompts.positions)):
        free = (positions == np.asarray(place)[:, None]) & ~np.any(list(chosen.values()), axis=0)
        if free.any() and name not in chosen:
            chosen[name] = free
    return chosen


def _by_distance(prompts: Prompts, real: np.ndarray) -> dict[str, np.ndarray]:
    """Positions by their distance from the answer's, as far as every prompt reaches back."""
    distances = np.arange(real.shape[1]) - np.asarray(prompts.positions)[:, None]
    furthest = int(np.min(prompts.positions, initial=real.shape[1]))
    return {
        "answer position" if back == 0 else f"{back} before": (distances == -back) & real
        for back in range(furthest, -1, -1)
    }


def token_texts(tokenizer: Any, prompts: Prompts) -> tuple[tuple[str, ...], ...]:
    """Every prompt's tokens as text, safe to print; their ids where there is no tokenizer."""
    rows = [row[:length].tolist() for row, length in zip(prompts.tokens, prompts.lengths, strict=True)]
    ids = sorted({token for row in rows for token in row})
    texts = {token: str(token) if tokenizer is None else plain(tokenizer.decode([token])) for token in ids}
    return tuple(tuple(texts[token] for token in row) for row in rows)
