"""Prompts in tokens for models with mixers, and plain forwards on them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from attention_prompts import prompts_of
from torch import Tensor

from census.sizes import VOCAB
from plain_hybrids import Run
from selfrepair.ablation.sites import Site
from selfrepair.model.language_model import LanguageModel
from selfrepair.prompts.prompts import Prompts

LENGTHS = (9, 9, 7)


@cache
def hybrid_prompts() -> Prompts:
    """Three prompts with twins."""
    draws = np.random.default_rng(3)
    tokens, twins = (draws.integers(3, VOCAB, (len(LENGTHS), max(LENGTHS))) for _ in range(2))
    return replace(prompts_of(tokens, LENGTHS, (5, 6, 7), (8, 9, 10)), corrupt=twins)


def run_on(model: LanguageModel, prompt: int, twin: bool = False, put: dict[Site, Tensor] | None = None) -> Run:
    """A plain forward on a prompt or its twin, from which the right answer's logit less the wrong one's is read."""
    asked = hybrid_prompts()
    tokens = asked.corrupt if twin else asked.tokens
    weights = torch.zeros(VOCAB, dtype=torch.float64)
    weights[asked.answers[prompt][0]], weights[asked.wrong[prompt][0]] = 1, -1
    return Run(model, torch.from_numpy(tokens[prompt, : LENGTHS[prompt]]), weights, put)
