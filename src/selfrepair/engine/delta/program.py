"""Running differences along a tape, from where they start to where they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from selfrepair.engine.delta.matmul import Precision, Prepared, Weights
from selfrepair.engine.delta.readings import Reading, read
from selfrepair.engine.delta.rules import Call, Values, apply
from selfrepair.engine.delta.tape import Operation, Tape


@dataclass(frozen=True)
class TapeValues:
    """Clean values straight from a tape, weights from the engine's store (`rules.Values`).

    Attributes:
        tape: of one layer.
        weights: of the whole model, at low precision.
        directions: by name, see `readings`.
    """

    tape: Tape
    weights: Weights
    directions: Mapping[str, Tensor]

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
        return isinstance(self.tape.values[index], nn.Parameter)

    def direction(self, name: str) -> Tensor:
        """See `rules.Values`."""
        return self.directions[name]


@dataclass(frozen=True)
class Program:
    """The operations that lie between a starting value and the values that are read.

    Attributes:
        start: number of the value at which differences start.
        readings: what is wanted.
        operations: what lies between, in order.
    """

    start: int
    readings: tuple[Reading, ...]
    operations: list[Operation] = field(default_factory=list)

    @classmethod
    def between(cls, tape: Tape, start: int, readings: Sequence[Reading]) -> Program:
        """Cuts a tape down to what moves with `start` and is needed for `readings`."""
        moving = {start}
        onward = []
        for operation in tape.operations:
            if moving.intersection(operation.inputs) and start not in operation.outputs:
                onward.append(operation)
                moving.update(i for i in operation.outputs if tape.active[i])
        wanted = {reading.index for reading in readings}
        needed = []
        for operation in reversed(onward):
            if wanted.intersection(operation.outputs):
                needed.append(operation)
                wanted.update(operation.inputs)
        return cls(start, tuple(readings), needed[::-1])

    def run(self, values: Values, difference: Tensor) -> dict[str, Tensor]:
        """What was to be read, by name.

        Args:
            values: clean values.
            difference: of the starting value, [run, *its shape].
        """
        differences, found = {self.start: difference}, {}
        wanted, last_use = self._wanted(), self._last_use()
        found.update({r.name: read(r, difference, values) for r in wanted.get(self.start, [])})
        for step, operation in enumerate(self.operations):
            moved = apply(Call(operation, values, differences, difference.shape[0]))
            for index, one in zip(operation.outputs, moved, strict=True):
                if one.is_floating_point():
                    differences[index] = one
                    found.update({r.name: read(r, one, values) for r in wanted.get(index, [])})
            for index in last_use[step]:
                differences.pop(index, None)
        return found

    def _wanted(self) -> dict[int, list[Reading]]:
        wanted: dict[int, list[Reading]] = {}
        for reading in self.readings:
            wanted.setdefault(reading.index, []).append(reading)
        return wanted

    def _last_use(self) -> list[list[int]]:
        """By step, the values that nothing later needs: their memory goes to the next."""
        last: dict[int, int] = {}
        for step, operation in enumerate(self.operations):
            last |= dict.fromkeys((*operation.inputs, *operation.outputs), step)
        by_step: list[list[int]] = [[] for _ in self.operations]
        for index, step in last.items():
            by_step[step].append(index)
        return by_step
