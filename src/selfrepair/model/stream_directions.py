"""Where a direction of the residual stream is read and replaced: along one vector of a block's output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from selfrepair.errors import SelfRepairError
from selfrepair.model.ports import Port
from selfrepair.model.taps import Place


@dataclass(frozen=True)
class DirectionPlace(Place):
    """What a module's output holds along a vector of length 1: one entry of size 1. The rest is left as it is.

    Attributes:
        vector: [width], in full precision.
    """

    vector: Tensor = field(kw_only=True)

    def split(self, value: Tensor) -> Tensor:
        """`value . vector`, [..., 1, 1]."""
        return torch.matmul(value, self.vector.to(value))[..., None, None]

    def join(self, outputs: Tensor) -> Tensor:
        """None: what a stream holds along one vector does not make a stream.

        Raises:
            TypeError: always.
        """
        raise TypeError("a stream cannot be made of what it holds along one vector")

    def put(self, value: Tensor, outputs: Mapping[int, Tensor]) -> Tensor:
        """See `Place.put`."""
        before = self.split(value)
        return self.changed(value, before, outputs.get(0, before[..., 0]).unsqueeze(-1))

    def changed(self, value: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """See `Place.changed`: equal entries add zero, which changes no bit."""
        moved = (after - before)[..., 0] * self.vector.to(value)
        return value + moved.reshape(value.shape)


def direction_place(module: nn.Module, port: Port, width: int) -> DirectionPlace:
    """Where a direction of a block's output is.

    Args:
        module: the block.
        port: which direction.
        width: of the stream.

    Raises:
        SelfRepairError: a vector of another length than the stream is wide.
    """
    if len(port.vector) != width:
        raise SelfRepairError(
            f"A direction after layer {port.layer} has {len(port.vector)} numbers; the residual stream has {width}.",
            "Give a vector of the stream of this model, one number for each of its entries.",
        )
    return DirectionPlace(module, False, 1, 1, vector=torch.tensor(port.vector, dtype=torch.float64))


def vector_of(port: Port, like: Tensor) -> Tensor:
    """The vector of a port of the stream, [width].

    Args:
        port: the port.
        like: of the device and number format that are wanted.
    """
    return torch.tensor(port.vector, dtype=torch.float64).to(like)
