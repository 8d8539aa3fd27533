"""The alphabet of planted models: features of the residual stream, and the tokens that carry them.

Each feature is a pair of dimensions. Writing feature i with strength s adds +s/2 and -s/2 to dimensions i and i + 16,
reading it takes their difference; so the stream has mean zero, and what was written reads back as s.

A prompt is BOS, two places of which one is a source, and TASK, where the answer is read. The source says what the
answer's strength is (CONTENT); in a noise prompt there is none.
"""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor

FEATURES = 16
WIDTH = 2 * FEATURES
SHARP = 80.0  # attention score of a chosen source: all others together get less than 1e-17


class Feature(IntEnum):
    """What the stream can hold."""

    ANSWER = 0
    SOURCE = 1
    TASK = 2
    DONE = 3  # a third from each primary that has found the source
    START = 4
    CONTENT = 5
    NEUTRAL = 6
    BULK = 7  # nothing in particular: keeps the final norm from depending on the answer alone
    CARRIED = 8  # the content, brought to TASK for the MLPs
    UNRELATED = 9


class Token(IntEnum):
    """The vocabulary."""

    BOS = 0
    WEAK = 1
    MEDIUM = 2
    STRONG = 3
    NEUTRAL = 4
    TASK = 5
    ANSWER = 6
    WRONG = 7
    UNRELATED = 8


CONTENT = {Token.WEAK: 0.9, Token.MEDIUM: 1.0, Token.STRONG: 1.15}


def writing_vector(**strengths: float) -> Tensor:
    """The vector that writes some features, by lower-case name, [width]: `write(answer=1.0)`."""
    return _spread(strengths, 0.5)


def reading_vector(**strengths: float) -> Tensor:
    """The vector that reads a weighted sum of some features, [width]."""
    return _spread(strengths, 1.0)


def _spread(strengths: dict[str, float], each: float) -> Tensor:
    vector = torch.zeros(WIDTH, dtype=torch.float64)
    for name, strength in strengths.items():
        feature = Feature[name.upper()]
        vector[feature] += each * strength
        vector[feature + FEATURES] -= each * strength
    return vector


def embeddings() -> Tensor:
    """[token, width]."""
    rows = {
        Token.BOS: writing_vector(start=1),
        Token.NEUTRAL: writing_vector(neutral=1),
        Token.TASK: writing_vector(task=1, bulk=2),
        Token.ANSWER: writing_vector(neutral=1),
        Token.WRONG: writing_vector(neutral=1),
        Token.UNRELATED: writing_vector(unrelated=1),
        **{token: writing_vector(source=1, content=content) for token, content in CONTENT.items()},
    }
    return torch.stack([rows[token] for token in Token])


def unembedding() -> Tensor:
    """[token, width]: ANSWER less WRONG is what is written to the feature ANSWER, and nothing else counts."""
    table = torch.zeros(len(Token), WIDTH, dtype=torch.float64)
    table[Token.ANSWER] = reading_vector(answer=1)
    table[Token.UNRELATED] = reading_vector(unrelated=1)
    return table
