"""Products of differences with weights: the one place where precision is lowered.

A difference is small beside the activations it is a difference of, so rounding it costs a share of the *effect*, not
of the activations (see docs/delta.md). Everything else in the engine stays at the model's own precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from selfrepair.engine.delta.blocked_weights import blocked, product_in_blocks, takes_blocks

Prepared = tuple[Tensor, ...]


class Precision(Protocol):
    """How differences are multiplied with weights."""

    @property
    def name(self) -> str:
        """Name in plans and results."""
        ...

    def prepare(self, weight: Tensor) -> Prepared:
        """A weight [inputs, outputs], made ready once."""
        ...

    def product(self, difference: Tensor, prepared: Prepared) -> Tensor:
        """`difference @ weight` at the model's precision; [..., inputs] to [..., outputs]."""
        ...


@dataclass(frozen=True)
class Full:
    """The model's own precision."""

    name: str = "full"

    def prepare(self, weight: Tensor) -> Prepared:
        """See `Precision.prepare`."""
        return (weight,)

    def product(self, difference: Tensor, prepared: Prepared) -> Tensor:
        """See `Precision.product`."""
        return difference @ prepared[0]


@dataclass(frozen=True)
class BFloat16:
    """Both factors rounded to bf16, 8 bits of mantissa each; summed in float32 by the hardware.

    Where a processor's library wants weights in blocks of its own, they are brought into that order once, not for every
    product: a tenth of the time.
    """

    name: str = "bfloat16"

    def prepare(self, weight: Tensor) -> Prepared:
        """See `Precision.prepare`."""
        rounded = weight.bfloat16()
        return (blocked(rounded) if takes_blocks(weight) else rounded,)

    def product(self, difference: Tensor, prepared: Prepared) -> Tensor:
        """See `Precision.product`."""
        rounded, weight = difference.bfloat16(), prepared[0]
        return (product_in_blocks(rounded, weight) if weight.is_mkldnn else rounded @ weight).to(difference.dtype)


@dataclass(frozen=True)
class Int8:
    """Both factors as 8-bit integers, one scale for each token's difference and one for each output.

    The integers' products and sums are exact (in 32 bits), so that all that is lost is lost in rounding the factors:
    about 0.8% of each for normally distributed ones, independent from product to product.
    """

    name: str = "int8"

    def prepare(self, weight: Tensor) -> Prepared:
        """See `Precision.prepare`."""
        scale = weight.abs().amax(0).clamp_min(_TINY) / _LARGEST
        return (weight / scale).round().to(torch.int8).contiguous(), scale  # contiguous: `_int_mm` is slow on views

    def product(self, difference: Tensor, prepared: Prepared) -> Tensor:
        """See `Precision.product`."""
        weight, outputs = prepared
        rows = difference.reshape(-1, difference.shape[-1])
        scale = rows.abs().amax(-1, keepdim=True).clamp_min(_TINY) / _LARGEST
        whole = torch._int_mm((rows / scale).round().to(torch.int8), weight)
        return (whole.to(difference.dtype) * scale * outputs).reshape(*difference.shape[:-1], weight.shape[1])


_LARGEST = 127
_TINY = 1e-30


PRECISIONS: dict[str, Precision] = {p.name: p for p in (Full(), BFloat16(), Int8())}


class Weights:
    """Weights in low precision, each made once and kept."""

    def __init__(self, precision: Precision) -> None:
        self.precision = precision
        self._prepared: dict[tuple[int, bool], tuple[Tensor, Prepared]] = {}  # by identity; the weight is kept alive

    def prepared(self, weight: Tensor, transposed: bool) -> Prepared:
        """A weight made ready.

        Args:
            weight: [inputs, outputs], or [outputs, inputs] where `transposed` (as `nn.Linear` keeps it).
            transposed: whether it is the transposed one.
        """
        key = (id(weight), transposed)
        if key in self._prepared:
            return self._prepared[key][1]
        prepared = self.precision.prepare(weight.t() if transposed else weight)
        if isinstance(weight, nn.Parameter):
            self._prepared[key] = weight, prepared
        return prepared

    def forget(self) -> None:
        """Lets go of all, where memory does not hold the model."""
        self._prepared.clear()
