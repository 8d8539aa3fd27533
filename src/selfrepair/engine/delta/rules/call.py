"""An operation that a difference is about to pass, and where its clean values come from.

Differences have an axis of ablated runs in front: [run, *shape of the clean value]. `None` stands for a difference
that is zero everywhere, and costs nothing. Of values that jump (`Tape.jumping`) the ablated runs' own stand in their
place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from selfrepair.effects.readouts import Reading
from selfrepair.engine.delta.matmul import Precision, Prepared
from selfrepair.engine.delta.tape import Operation, Ref

Difference = Tensor | None


class Values(Protocol):
    """Source of clean values and weights for rules."""

    @property
    def precision(self) -> Precision:
        """How differences are multiplied with weights."""
        ...

    def clean(self, index: int) -> Tensor:
        """The clean value of that number."""
        ...

    def prepared(self, index: int, transposed: bool) -> Prepared:
        """A constant of the tape as a low-precision weight."""
        ...

    def is_weight(self, index: int) -> bool:
        """Whether the value is a parameter of the model."""
        ...

    def jumps(self, index: int) -> bool:
        """Whether ablated runs' own values are carried, not differences; see `Tape.jumping`."""
        ...

    def direction(self, name: str) -> Tensor:
        """A direction that writes are read along; see `probes`."""
        ...

    @property
    def reading(self) -> Reading:
        """What is measured, and where."""
        ...

    @property
    def shape(self) -> torch.Size:
        """(windows, positions)."""
        ...


@dataclass(frozen=True)
class Call:
    """An operation that a difference is about to pass.

    Attributes:
        operation: operation on the tape.
        values: clean values and weights.
        differences: differences by number of the value; all others are zero.
        runs: how many ablated runs.
    """

    operation: Operation
    values: Values
    differences: dict[int, Tensor]
    runs: int

    @property
    def moving(self) -> list[int]:
        """Numbers of the arguments with a difference, each once."""
        return [i for i in dict.fromkeys(self.operation.inputs) if i in self.differences]

    def difference(self, argument: Any) -> Difference:
        """The difference of an argument, None where it is zero."""
        return self.differences.get(argument.index) if isinstance(argument, Ref) else None

    def clean(self, argument: Any) -> Tensor:
        """An argument's clean value; the argument itself where it is a number, which works like a tensor."""
        value: Tensor = self.values.clean(argument.index) if isinstance(argument, Ref) else argument
        return value

    def full(self, argument: Any) -> Tensor:
        """Clean value plus difference, [run, ...]."""
        return self.clean(argument) if self.difference(argument) is None else self.moved(argument.index)

    def moved(self, index: int) -> Tensor:
        """The same of a value that moves, by its number."""
        difference = self.differences[index]
        return difference if self.values.jumps(index) else self.values.clean(index) + difference

    def change(self, value: Tensor, which: int) -> Tensor:
        """What is carried of a result [run, ...] of the operation: its difference, or itself where it jumps."""
        return value if self.values.jumps(self.operation.outputs[which]) else value - self.output(which)

    @property
    def jumps(self) -> bool:
        """Whether something that jumps is among what moves."""
        return any(map(self.values.jumps, self.moving))

    def folded(self, argument: Any) -> Tensor:
        """Clean value plus difference of an argument that moves, runs folded into the batch."""
        return self.full(argument).flatten(0, 1)

    def output(self, which: int = 0) -> Tensor:
        """The operation's clean result."""
        return self.values.clean(self.operation.outputs[which])

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or name."""
        operation = self.operation
        if position < len(operation.args):
            return operation.args[position]
        return operation.kwargs.get(name, default)


Moved = Tensor | tuple[Tensor, ...]

Rule = Callable[[Call], Moved]


def lifted(difference: Tensor, rank: int) -> Tensor:
    """A difference of a value of fewer axes, with ones put in behind the runs: it broadcasts as the value does."""
    missing = rank + 1 - difference.ndim
    return difference.reshape(difference.shape[0], *[1] * missing, *difference.shape[1:]) if missing else difference


def rank_of(call: Call, *arguments: Any) -> int:
    """The most axes that a clean value among the arguments has."""
    return max(call.values.clean(a.index).ndim for a in arguments if isinstance(a, Ref))


def is_ref(leaf: Any) -> bool:
    """Whether an argument stands for a value of the tape."""
    return isinstance(leaf, Ref)
