"""Ports: the tensors of a block that can be read and replaced, whatever an architecture calls them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor, nn

    from selfrepair.model.language_model import LanguageModel

Kind = Literal["heads", "neurons", "mlp"]
KINDS: tuple[Kind, ...] = ("heads", "neurons", "mlp")  # in the order in which a block computes them


class Port(NamedTuple):
    """A tensor of a block that can be read and replaced, [window, position, entry, size].

    Attributes:
        layer: of which block.
        kind: `heads`, what the output projection reads [.., head, head_dim], value constants left out; `neurons`, the
            activations that the MLP's last map reads [.., neuron, 1]; `mlp`, what the MLP's last module puts out
            [.., 1, width].
    """

    layer: int
    kind: Kind


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
        from selfrepair.model.taps import on_input, on_output

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
