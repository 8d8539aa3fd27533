"""Prompts from token ids that are made here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from selfrepair.prompts.prompts import Prompts

Sides = Sequence[tuple[int, ...]]


def prompts_of(
    tokens: np.ndarray,
    answers: Sides,
    wrong: Sides,
    *,
    groups: Sequence[str],
    corrupt: np.ndarray | None = None,
    texts: Sequence[str] | None = None,
) -> Prompts:
    """Prompts of one length whose answers are read at the last position.

    Args:
        tokens: [prompt, position].
        answers: tokens of right answers, by prompt.
        wrong: of wrong ones.
        groups: of each prompt.
        corrupt: the twins, [prompt, position].
        texts: the prompts as texts.
    """
    number, length = tokens.shape
    lengths = np.full(number, length)
    return Prompts(
        tokens=tokens,
        lengths=lengths,
        corrupt=corrupt,
        answers=tuple(answers),
        wrong=tuple(wrong),
        positions=lengths - 1,
        spans=({},) * number,
        ids=tuple(str(place + 1) for place in range(number)),
        groups=tuple(groups),
        texts=tuple(texts or [""] * number),
        weights=np.ones(number),
        dropped=(),
        provenance={"format": "made"},
    )
