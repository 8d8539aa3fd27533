"""A model's logits without the constants that its final norm and unembedding add.

These constants (`beta` of a target, see `model.directions`) are the same in the clean and in every ablated run, so no
effect depends on them. They can be huge: padded rows of a vocabulary are switched off by a bias of -1e9, whose
rounding alone is 64 logits in single precision. So effects are never taken from numbers that they were added to.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

_SWITCHED_OFF = 0.5  # share of the lowest number there is: code that masks rows writes that number, or -inf


def logits_without_constants(network: Any, final_norm: nn.Module, tokens: Tensor) -> Tensor:
    """The model's own logits of a forward without the biases of its final norm and unembedding, caps included.

    Args:
        network: the Hugging Face model.
        final_norm: its final norm.
        tokens: [window, position].

    Returns:
        [window, position, vocabulary].
    """
    inner = {id(final_norm), id(network.get_output_embeddings())}
    biases = {
        f"{name}.bias": torch.zeros_like(module.bias)
        for name, module in network.named_modules()
        if id(module) in inner and isinstance(getattr(module, "bias", None), Tensor)
    }
    if not biases:
        return network(tokens, use_cache=False).logits  # type: ignore[no-any-return]
    return functional_call(network, biases, (tokens,), {"use_cache": False}).logits  # type: ignore[no-any-return]


def without_bias(norm: nn.Module, value: Tensor) -> Tensor:
    """The norm of `value` without its bias."""
    bias = getattr(norm, "bias", None)
    if not isinstance(bias, Tensor):
        return norm(value)  # type: ignore[no-any-return]
    return functional_call(norm, {"bias": torch.zeros_like(bias)}, (value,))  # type: ignore[no-any-return]


def masked_rows(logits: Tensor, bias: Tensor | None) -> Tensor | None:
    """Rows of the vocabulary that a model switches off for good: a bias of -inf, or code that writes the lowest number
    there is, or -inf, over their logits.

    Args:
        logits: logits of some tokens, without constants and before caps are undone, [window, position, vocabulary].
        bias: bias of the unembedding.

    Returns:
        bool [vocabulary]; None where there are none.
    """
    masked = (logits <= _SWITCHED_OFF * torch.finfo(logits.dtype).min).flatten(0, -2).all(0)
    if bias is not None:
        masked |= torch.isneginf(bias)
    return masked if masked.any() else None
