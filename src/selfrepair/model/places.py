"""Where ports are in a model: the module whose input or output each of them is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port
from selfrepair.model.taps import on_input, on_output


@dataclass(frozen=True)
class Place:
    """Where a port is in the model.

    Attributes:
        module: the module whose input or output it is.
        is_input: whether it is the input.
        entries: how many parts the tensor has: heads, neurons, or 1.
        size: width of each.
        constant: what each entry holds whatever the block reads [entry, size], left out of the port's tensor; None for
            nothing.
    """

    module: nn.Module
    is_input: bool
    entries: int
    size: int
    constant: Tensor | None = None

    def split(self, value: Tensor) -> Tensor:
        """The port's tensor [..., entry, size] from the module's [..., entries * size]."""
        parts = value.reshape(*value.shape[:-1], self.entries, self.size)
        return parts if self.constant is None else parts - self.constant

    def join(self, outputs: Tensor) -> Tensor:
        """The module's tensor [..., entries * size] from the port's."""
        return (outputs if self.constant is None else outputs + self.constant).flatten(-2)

    def tap(self, read: Callable[[Tensor], Tensor | None]) -> Any:
        """A hook that calls `read` with the module's tensor; what it returns, if anything, takes its place."""
        return (on_input if self.is_input else on_output)(self.module, read)


def place_of(model: LanguageModel, port: Port) -> Place:
    """Where a port is.

    Raises:
        SelfRepairError: the block has no neurons that could be found, as in a mixture of experts.
    """
    block = model.anatomy.blocks[port.layer]
    if port.kind == "heads":
        return Place(block.projection, True, block.heads, block.head_dim, block.value_constant)
    if port.kind == "mlp":
        return Place(block.mlp_write, False, 1, model.anatomy.width)
    neurons = model.neurons(port.layer)
    return Place(neurons.module, True, len(neurons.weight), 1)
