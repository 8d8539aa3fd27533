"""Ports: the tensors of a block that can be read and replaced, under one name for all architectures."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["heads", "neurons", "mlp"]
KINDS: tuple[Kind, ...] = ("heads", "neurons", "mlp")  # in the order in which a block computes them


class Port(NamedTuple):
    """A tensor of a block that can be read and replaced, [window, position, entry, size].

    Example:
        >>> Port(3, "mlp").layer
        3

    Attributes:
        layer: layer of the block.
        kind: `heads`, what the output projection reads [.., head, head_dim], value constants left out; `neurons`, the
            activations that the MLP's last map reads [.., neuron, 1]; `mlp`, what the MLP's last module puts out
            [.., 1, width].
    """

    layer: int
    kind: Kind
