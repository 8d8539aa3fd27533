"""Small models with prompts, for the benchmarks."""

import numpy as np
import pytest

from selfrepair.bench.made_prompts import prompts_of
from support import DONORS, TOKENS, language_model


@pytest.fixture(scope="session")
def prompts():
    """The families' random texts, with twins, answers and wrong answers."""
    tokens, twins = TOKENS.numpy(), DONORS.numpy()
    answers, wrong = [(5 + place,) for place in range(len(tokens))], [(50 + place,) for place in range(len(tokens))]
    return prompts_of(tokens, answers, wrong, groups=["one"] * len(tokens), corrupt=np.asarray(twins))


@pytest.fixture(scope="session")
def model():
    """By family, in float64."""
    loaded = {}

    def of(name: str):
        if name not in loaded:
            loaded[name] = language_model(name, dtype="float64")
        return loaded[name]

    return of
