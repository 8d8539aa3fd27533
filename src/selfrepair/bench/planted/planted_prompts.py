"""Prompts for planted models."""

from __future__ import annotations

import numpy as np

from selfrepair.bench.made_prompts import prompts_of
from selfrepair.bench.planted.stream_features import CONTENT, Token
from selfrepair.prompts.prompts import Prompts
from selfrepair.statistics.estimates import Array


def planted_prompts(number: int, seed: int, noise: float = 0.1) -> tuple[Prompts, Array]:
    """Prompts with a source at a random one of two places, and the content that it has.

    Args:
        number: how many.
        seed: of the draws.
        noise: share of prompts without a source, at least one where it is not zero.

    Returns:
        Prompts; contents [prompt], 0 where there is no source.
    """
    rng = np.random.default_rng((seed, 1))
    sources = np.array(list(CONTENT))[rng.integers(len(CONTENT), size=number)]
    if noise:
        sources[rng.permutation(number)[: max(1, round(noise * number))]] = Token.NEUTRAL
    tokens = np.full((number, 4), Token.NEUTRAL, np.int64)
    tokens[:, 0], tokens[:, 3] = Token.BOS, Token.TASK
    tokens[np.arange(number), rng.integers(1, 3, size=number)] = sources
    contents = np.array([CONTENT.get(Token(source), 0.0) for source in sources.tolist()])
    sides = ([(int(Token.ANSWER),)] * number, [(int(Token.WRONG),)] * number)
    return prompts_of(tokens, *sides, groups=["planted"] * number), contents
