"""Running differences along a tape, from where they start to where they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from selfrepair.engine.delta.matmul import Precision, Prepared, Weights
from selfrepair.engine.delta.rules import Call, apply
from selfrepair.engine.delta.tape import Operation, Tape


@dataclass
class TapeValues:
    """Clean values straight from a tape, weights from the engine's store (`rules.Values`)."""

    tape: Tape
    weights: Weights

    @property
    def precision(self) -> Precision:
        """How differences are multiplied with weights."""
        return self.weights.precision

    def clean(self, index: int) -> Tensor:
        """See `rules.Values`."""
        return self.tape.values[index]

    def prepared(self, index: int, transposed: bool) -> Prepared:
        """See `rules.Values`."""
        return self.weights.prepared(self.tape.values[index], transposed)

    def is_weight(self, index: int) -> bool:
        """See `rules.Values`."""
        return isinstance(self.tape.values[index], torch.nn.Parameter)


@dataclass
class Program:
    """The operations that lie between a starting value and the values that are read.

    Attributes:
        start: number of the value at which differences start.
        read: numbers of the values whose differences are wanted.
        operations: what lies between them, in order.
    """

    start: int
    read: tuple[int, ...]
    operations: list[Operation] = field(default_factory=list)

    @classmethod
    def between(cls, tape: Tape, start: int, read: Sequence[int]) -> Program:
        """Cuts a tape down to what moves with `start` and is needed for `read`."""
        moving = {start}
        onward = []
        for operation in tape.operations:
            if moving.intersection(operation.inputs) and start not in operation.outputs:
                onward.append(operation)
                moving.update(i for i in operation.outputs if tape.active[i])
        wanted = set(read)
        needed = []
        for operation in reversed(onward):
            if wanted.intersection(operation.outputs):
                needed.append(operation)
                wanted.update(operation.inputs)
        return cls(start, tuple(read), needed[::-1])

    def run(self, values: TapeValues, difference: Tensor) -> dict[int, Tensor]:
        """Differences of the values in `read`, by number; those that stay zero are left out.

        Args:
            values: clean values.
            difference: of the starting value, [run, *its shape].
        """
        differences = {self.start: difference}
        last_use = self._last_use()
        for step, operation in enumerate(self.operations):
            found = apply(Call(operation, values, differences, difference.shape[0]))
            for index, one in zip(operation.outputs, found, strict=True):
                if one.is_floating_point():
                    differences[index] = one
            for index in last_use[step]:
                differences.pop(index, None)
        return {index: differences[index] for index in self.read if index in differences}

    def _last_use(self) -> Mapping[int, list[int]]:
        """By step, the values that nothing later needs: their memory goes to the next."""
        last: dict[int, int] = {}
        for step, operation in enumerate(self.operations):
            for index in operation.inputs:
                last[index] = step
        by_step: dict[int, list[int]] = {step: [] for step in range(len(self.operations))}
        for index, step in last.items():
            if index not in self.read:
                by_step[step].append(index)
        return by_step
