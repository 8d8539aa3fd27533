"""Keeps float64 models in float64, though Hugging Face code upcasts to float32 in many norms and softmaxes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from selfrepair.errors import SelfRepairError

_WIDE = torch.float64
_NARROW = torch.float32


class _KeepDouble(TorchFunctionMode):
    """Reads every request for float32 as one for float64."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.Tensor.float:
            return args[0].double()
        for argument in args:  # few calls have any, and this is at every one
            if argument is _NARROW:
                args = tuple(_WIDE if argument is _NARROW else argument for argument in args)
                break
        if not kwargs:
            return func(*args)
        return func(*args, **{name: _WIDE if value is _NARROW else value for name, value in kwargs.items()})


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def running(dtype: torch.dtype) -> Iterator[None]:
    """Inference under which a model of `dtype` keeps that precision throughout.

    A float64 model's norms compute `x.to(torch.float32)` in Hugging Face's code. Under this context such
    casts stay in float64, so that an oracle in float64 has float64's rounding everywhere.
    The same goes for what the model creates itself (XGLM fills masks with the lowest number of the precision).
    """
    with torch.inference_mode():
        if dtype == _WIDE:
            with _default_dtype(_WIDE), _KeepDouble():
                yield
        else:
            yield


def require_running(dtype: torch.dtype, what: str) -> None:
    """Refuses to compute outside `running`: torch would record everything for gradients, and a float64 model would
    round to float32 without a word.

    Args:
        dtype: the model's.
        what: was called, as in `sweep`.

    Raises:
        SelfRepairError: saying where to call it.
    """
    doubled = dtype != _WIDE or torch.zeros((), dtype=_WIDE).float().dtype == _WIDE
    if not (torch.is_inference_mode_enabled() and doubled):
        raise SelfRepairError(
            f"`{what}` was called outside `model.running()`, which keeps the model's precision and computes no "
            "gradients.",
            "Put clean_run, port_outputs and the loop over sweep's ledgers under `with model.running():`.",
        )
