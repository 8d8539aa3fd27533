"""Finds the constants that a model multiplies its unembedding's input and its logits with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from selfrepair.errors import RefusedModel
from selfrepair.model.anatomy import Unembedding
from selfrepair.model.constants import logits_without_constants, masked_rows
from selfrepair.model.taps import keeping, on_input, on_output, removing

_DIGITS = 7  # of decimals that are tried: configurations write multipliers, or their reciprocals, with few


def rounded(ratio: float, tolerance: float) -> float:
    """The constant of few digits, or reciprocal of one, that a ratio found by computing stands for; else the ratio.

    Args:
        ratio: as found.
        tolerance: the relative error it is found with.
    """
    for digits in range(_DIGITS):
        for candidate in (round(ratio, digits), 1 / (round(1 / ratio, digits) or ratio) if ratio else 0.0):
            if abs(candidate - ratio) <= tolerance * abs(ratio):
                return candidate
    return ratio


def scaled_unembedding(
    model: Any, final_norm: nn.Module, head: nn.Module, plain: Unembedding, tokens: Tensor
) -> Unembedding:
    """The unembedding with the constants before it (MiniCPM 3) and behind it (Granite, Cohere).

    Found by comparing what goes in and out in a forward on `tokens`, the constants of final norm and unembedding left
    out; rows that the model masks are found with them. `logits = outer (W (inner n) + b)` is
    `outer inner (W n + b / inner)`. Whether they are constants at all is proved at load, as the identity 'read-out'.

    Raises:
        RefusedModel: the model leaves out, or adds, logits behind its unembedding.
    """
    seen: dict[str, Tensor] = {}
    handles = [
        on_output(final_norm, keeping(seen, "normed")),
        on_input(head, keeping(seen, "read")),
        on_output(head, keeping(seen, "raw")),
    ]
    with removing(*handles):
        logits = logits_without_constants(model, final_norm, tokens)
    if logits.shape != seen["raw"].shape:
        raise RefusedModel(
            "own forward",
            f"the unembedding puts out {tuple(seen['raw'].shape)} (window, position, vocabulary), the model "
            f"{tuple(logits.shape)}.",
            "Soft prompts and vocabularies that are put together cannot be measured: take the plain model.",
        )
    used = replace(plain, masked=masked_rows(logits, plain.bias))
    inner = _ratio(seen["read"], seen["normed"], plain.weight.dtype)
    given, raw = (values[..., used.counted] for values in (plain.uncapped(logits), seen["raw"]))
    outer = _ratio(given, raw, plain.weight.dtype)
    bias = plain.bias if plain.bias is None or inner == 1 else plain.bias / inner
    return replace(used, bias=bias, multiplier=outer * inner)


def _ratio(scaled: Tensor, of: Tensor, dtype: torch.dtype) -> float:
    """`found / of` by least squares; 1 where they cannot be compared."""
    if scaled.shape != of.shape:
        return 1.0
    scaled, of = scaled.double(), of.double()
    size = of.square().sum()
    ratio = float((of * scaled).sum() / size) if size > 0 else 1.0
    return rounded(ratio, 1e-12 if dtype == torch.float64 else 1e-6) or 1.0
