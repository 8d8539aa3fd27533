"""Ports: the tensors of a block that can be read and replaced, under one name for all architectures."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["heads", "mixer", "neurons", "mlp", "stream"]
KINDS: tuple[Kind, ...] = ("heads", "mixer", "neurons", "mlp")  # in the order in which a block computes them
STREAM: Kind = "stream"  # after all of them: what the block puts out


class Port(NamedTuple):
    """A tensor of a block that can be read and replaced, [window, position, entry, size].

    Example:
        >>> Port(3, "mlp").layer
        3

    Attributes:
        layer: layer of the block.
        kind: `heads`, what the output projection reads [.., head, head_dim], value constants left out; `mixer`, what a
            mixer writes, which moves information between positions without heads [.., 1, width]; `neurons`, the
            activations that the MLP's last map reads [.., neuron, 1]; `mlp`, what the MLP's last module puts out, or
            one of several that write side by side [.., 1, width]; `stream`, what the block's output, the residual
            stream, holds along `vector` [.., 1, 1].
        vector: of length 1, as many numbers as the stream is wide, for a `stream`; of other kinds empty.
        part: which write of an `mlp` that writes with several modules (experts beside an MLP), counted from 0; -1 where
            it has one, and for other kinds.
    """

    layer: int
    kind: Kind
    vector: tuple[float, ...] = ()
    part: int = -1

    @property
    def write(self) -> int:
        """Number of the module among those that write for the MLP."""
        return max(self.part, 0)

    def __repr__(self) -> str:
        shown = f", vector=<{len(self.vector)} numbers>" if self.vector else ""
        shown += f", part={self.part}" if self.part >= 0 else ""
        return f"Port(layer={self.layer}, kind={self.kind!r}{shown})"
