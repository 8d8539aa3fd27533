"""Records the products of an attention module while it computes them, whatever its parts are called.

Attention multiplies queries with keys, and weights with values. Every implementation of it in plain PyTorch calls
`matmul`, `bmm` or `baddbmm` for that, or one fused function. So the calls are recorded as they are made; which of them
is which is found by what comes out (`selfrepair.engine.attention_parts`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

FUSED = "scaled_dot_product_attention"
_OPERANDS = {  # where a function has its operands, by place and by name
    "matmul": ((0, "input"), (1, "other")),
    "bmm": ((0, "input"), (1, "mat2")),
    "baddbmm": ((1, "batch1"), (2, "batch2")),
    FUSED: ((0, "query"), (1, "key"), (2, "value")),
}
_FUSED_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")


@dataclass(frozen=True)
class Product:
    """One call of a function that multiplies matrices.

    Attributes:
        number: how many such calls its block made before.
        operands: its factors, in order; queries, keys and values of a fused attention.
        result: its shape.
        options: mask, scale and so on of a fused attention, by name; None for a plain product.
    """

    number: int
    operands: tuple[Tensor, ...]
    result: torch.Size
    options: Mapping[str, Any] | None


@dataclass(frozen=True)
class Fed:
    """What one product of a block gets in the place of its own operands; None leaves one as it is.

    Attributes:
        number: number of the product.
        first: replaces the first factor, queries.
        second: replaces the second factor, keys.
    """

    number: int
    first: Tensor | None
    second: Tensor | None


@dataclass
class Products(TorchFunctionMode):
    """Records products between `enter` and `leave`, and changes operands where something is fed.

    Attributes:
        fed: what some products get in place of their operands, by layer.
    """

    fed: Mapping[int, Fed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._layer: int | None = None
        self._products: list[Product] = []

    def enter(self, layer: int) -> None:
        """A layer whose products are wanted starts to compute."""
        self._layer, self._products = layer, []

    def leave(self, layer: int) -> list[Product]:
        """The products of the layer since `enter`; none where it did not enter."""
        products = self._products if self._layer == layer else []
        self._layer, self._products = None, []
        return products

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called by PyTorch in the place of every function of its own."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").strip("_")
        if self._layer is None or name not in _OPERANDS:
            return func(*args, **kwargs)
        number, fed = len(self._products), self.fed.get(self._layer)
        if fed is not None and fed.number == number:
            args, kwargs = _with_operands(name, args, kwargs, (fed.first, fed.second))
        result = func(*args, **kwargs)
        operands = tuple(_operand(args, kwargs, *where) for where in _OPERANDS[name])
        options = dict(zip(_FUSED_ARGUMENTS, args, strict=False)) | kwargs if name == FUSED else None
        self._products.append(Product(number, operands, result.shape, options))
        return result


def _operand(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, name: str) -> Any:
    return args[position] if position < len(args) else kwargs[name]


def _with_operands(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], operands: tuple[Tensor | None, ...]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same arguments with other operands, where there are others."""
    given, named = list(args), dict(kwargs)
    for (position, key), operand in zip(_OPERANDS[name], operands, strict=False):
        if operand is None:
            continue
        if position < len(given):
            given[position] = operand
        else:
            named[key] = operand
    return tuple(given), named


def fused_weights(product: Product, positions: Tensor) -> Tensor:
    """The attention weights that a fused attention does not return, from its arguments, [window, head, source].

    Args:
        product: a fused attention.
        positions: positions of the queries, one for each window [window].
    """
    assert product.options is not None
    queries, keys = product.operands[:2]
    windows = torch.arange(len(positions), device=positions.device)
    query = queries[windows, :, positions]
    keys = repeated(keys, query.shape[1])
    scale = product.options.get("scale") or queries.shape[-1] ** -0.5
    scores = scale * torch.einsum("whe,whse->whs", query, keys)
    mask = product.options.get("attn_mask")
    if mask is not None:
        row = mask.expand(len(positions), mask.shape[1], queries.shape[-2], scores.shape[-1])[windows, :, positions]
        scores = scores.masked_fill(~row, -torch.inf) if row.dtype == torch.bool else scores + row
    if product.options.get("is_causal"):
        later = torch.arange(scores.shape[-1], device=scores.device) > positions[:, None]
        scores = scores.masked_fill(later[:, None], -torch.inf)
    return torch.softmax(scores, -1)


def repeated(shared: Tensor, heads: int) -> Tensor:
    """Keys or values [window, group, source, size] that neighbouring heads share, for every head."""
    return shared.repeat_interleave(heads // shared.shape[1], 1)
