"""Prompts in token ids for the tests of splits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from selfrepair.prompts.prompts import Prompts


def prompts_of(
    tokens: np.ndarray,
    lengths: Sequence[int],
    answers: Sequence[int],
    wrong: Sequence[int],
    spans: Sequence[dict[str, tuple[int, int]]] | None = None,
    positions: Sequence[int] | None = None,
    groups: Sequence[str] | None = None,
) -> Prompts:
    """One answer and one wrong answer each; read at the last token unless said otherwise."""
    number = len(tokens)
    return Prompts(
        tokens=np.asarray(tokens),
        lengths=np.asarray(lengths),
        corrupt=None,
        answers=tuple((int(one),) for one in answers),
        wrong=tuple((int(one),) for one in wrong),
        positions=np.asarray(lengths) - 1 if positions is None else np.asarray(positions),
        spans=tuple(spans or ({} for _ in range(number))),
        ids=tuple(str(one + 1) for one in range(number)),
        groups=tuple(groups or ["one"] * number),
        texts=tuple(f"prompt {one + 1}" for one in range(number)),
        weights=np.ones(number),
        dropped=(),
        provenance={},
    )
