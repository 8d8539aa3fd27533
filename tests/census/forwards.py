"""Effects of ablated heads and mixers from plain Hugging Face forwards under plain hooks, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
    for name in ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap"):
        cap: float | None = getattr(config, name, None)
        if cap is not None:
            return cap
    return None


def _targets(values: Tensor, tokens: Tensor) -> Tensor:
    """The next token's centred logit [window, position]; rows that the model switches off are no part of the mean."""
    off = values.amin((0, 1)) < -1e30
    centred = values - values[..., ~off].mean(-1, keepdim=True)
    return centred[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]


@dataclass(frozen=True)
class Part:
    """What is ablated: one of `number` equal parts of what a module reads (heads), or all that one puts out."""

    module: nn.Module
    index: int = 0
    number: int = 1
    is_input: bool = False

    def tap(self, read: Callable[[Tensor], Tensor | None]) -> Any:
        """A plain hook that shows, and may replace, the tensor."""

        def before(_module: Any, args: Any) -> Any:
            changed = read(args[0])
            return None if changed is None else (changed, *args[1:])

        def after(_module: Any, _args: Any, output: Any) -> Any:
            changed = read(output[0] if isinstance(output, tuple) else output)
            return (changed, *output[1:]) if changed is not None and isinstance(output, tuple) else changed

        return (
            self.module.register_forward_pre_hook(before) if self.is_input else self.module.register_forward_hook(after)
        )


def effects(model: Any, parts: Sequence[Part]) -> list[Tensor]:
    """Total effects of parts replaced by their outputs on the donors, [window, position] each.

    Args:
        model: the model, float64.
        parts: those to ablate, one at a time.
    """
    tokens, donors = texts()
    with plainly():
        clean = _targets(logits(model, tokens), tokens)
        donated: dict[nn.Module, Tensor] = {}
        handles = [part.tap(lambda value, at=part.module: donated.__setitem__(at, value.clone())) for part in parts]
        logits(model, donors)
        for handle in handles:
            handle.remove()
        found = []
        for part in parts:

            def swap(value: Tensor, part: Part = part) -> Tensor:
                changed, size = value.clone(), value.shape[-1] // part.number
                chosen = slice(part.index * size, (part.index + 1) * size)
                changed[..., chosen] = donated[part.module].reshape(value.shape)[..., chosen]
                return changed

            handle = part.tap(swap)
            try:
                found.append(_targets(logits(model, tokens), tokens) - clean)
            finally:
                handle.remove()
    return found
