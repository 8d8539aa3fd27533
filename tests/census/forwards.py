"""Effects of ablated heads from plain Hugging Face forwards under plain hooks, in float64: nothing of the package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from census.sizes import VOCAB

LENGTH = 11


class _Wide(TorchFunctionMode):
    """Requests for float32 become float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def wide(value: Any) -> Any:
            return torch.float64 if value is torch.float32 else value

        if func is torch.Tensor.float:
            func = torch.Tensor.double
        return func(*map(wide, args), **{name: wide(value) for name, value in (kwargs or {}).items()})


@contextmanager
def plainly() -> Iterator[None]:
    """Inference in float64 throughout."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad(), _Wide():
            yield
    finally:
        torch.set_default_dtype(before)


def texts() -> tuple[Tensor, Tensor]:
    """Two windows, with special tokens in the middle of one, and donors [window, position]."""
    draws = torch.Generator().manual_seed(7)
    tokens, donors = (torch.randint(3, VOCAB, (2, LENGTH), generator=draws) for _ in range(2))
    tokens[1, 2], tokens[1, 5], tokens[1, 8] = 0, 1, 2
    return tokens, donors


def logits(model: Any, tokens: Tensor) -> Tensor:
    """The model's own [window, position, vocabulary], before a cap."""
    given: Tensor = model(tokens, use_cache=False).logits
    cap = _softcap(model)
    return given if cap is None else cap * torch.atanh(given / cap)


def _softcap(model: Any) -> float | None:
    config = model.config.get_text_config()
    for name in ("final_logit_softcapping", "logits_soft_cap"):
        cap: float | None = getattr(config, name, None)
        if cap is not None:
            return cap
    return None


def _targets(values: Tensor, tokens: Tensor) -> Tensor:
    """The next token's centred logit [window, position]; rows that the model switches off are no part of the mean."""
    off = values.amin((0, 1)) < -1e30
    centred = values - values[..., ~off].mean(-1, keepdim=True)
    return centred[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]


def effects(
    model: Any, projections: dict[int, tuple[nn.Module, int]], heads: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], Tensor]:
    """Total effects of heads replaced by their outputs on the donors, by (layer, head), [window, position].

    Args:
        model: the model, float64.
        projections: by layer, the module that reads all heads side by side, and their number.
        heads: layer and head of those to ablate.
    """
    tokens, donors = texts()
    with plainly():
        clean = _targets(logits(model, tokens), tokens)
        donated: dict[int, Tensor] = {}
        handles = [
            module.register_forward_pre_hook(lambda _m, args, at=layer: donated.__setitem__(at, args[0].clone()))
            for layer, (module, _) in projections.items()
        ]
        logits(model, donors)
        for handle in handles:
            handle.remove()
        found = {}
        for layer, head in heads:
            module, number = projections[layer]

            def swap(_m: Any, args: Any, layer: int = layer, head: int = head, number: int = number) -> Any:
                value, size = args[0].clone(), args[0].shape[-1] // number
                part = slice(head * size, (head + 1) * size)
                value[..., part] = donated[layer].reshape(value.shape)[..., part]
                return (value, *args[1:])

            handle = module.register_forward_pre_hook(swap)
            try:
                found[layer, head] = _targets(logits(model, tokens), tokens) - clean
            finally:
                handle.remove()
    return found
