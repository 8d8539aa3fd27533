"""Running differences along a tape, from where they start to where they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from selfrepair.effects.readouts import Reading
from selfrepair.engine.delta.matmul import Precision, Prepared, Weights
from selfrepair.engine.delta.probes import Probe, read_probe
from selfrepair.engine.delta.rules import Call, Values, apply
from selfrepair.engine.delta.tape import Operation, Tape


@dataclass(frozen=True)
class TapeValues:
    """Clean values straight from a tape, weights from the engine's store (`rules.Values`).

    Attributes:
        tape: tape of one layer.
        weights: weights of the whole model, at low precision.
        directions: directions by name, see `probes`.
        reading: what is measured, and where.
        shape: (windows, positions).
    """

    tape: Tape
    weights: Weights
    directions: Mapping[str, Tensor]
    reading: Reading
    shape: torch.Size

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

    def jumps(self, index: int) -> bool:
        """See `rules.Values`."""
        return index in self.tape.jumping

    def direction(self, name: str) -> Tensor:
        """See `rules.Values`."""
        return self.directions[name]


@dataclass(frozen=True)
class Program:
    """The operations that lie between a starting value and the values that are read.

    Attributes:
        start: number of the value at which differences start.
        probes: the values to read.
        patched: numbers of values whose differences are replaced on the way.
        operations: operations between start and probes, in order.
    """

    start: int
    probes: tuple[Probe, ...]
    patched: tuple[int, ...] = ()
    operations: list[Operation] = field(default_factory=list)

    @classmethod
    def between(cls, tape: Tape, start: int, probes: Sequence[Probe], patched: Sequence[int] = ()) -> Program:
        """Cuts a tape down to what moves with `start` or a patched value and is needed for `probes`."""
        moving = {start, *patched}
        onward = []
        for operation in tape.operations:
            if moving.intersection(operation.inputs) and start not in operation.outputs:
                onward.append(operation)
                moving.update(i for i in operation.outputs if tape.active[i])
        wanted = {probe.index for probe in probes}
        needed = []
        for operation in reversed(onward):
            if wanted.intersection(operation.outputs):
                needed.append(operation)
                wanted.update(operation.inputs)
        return cls(start, tuple(probes), tuple(patched), needed[::-1])

    def run(
        self, values: Values, difference: Tensor, patches: Mapping[int, Callable[[Tensor], Tensor]] | None = None
    ) -> dict[str, Tensor]:
        """The probed values, by name.

        Args:
            values: clean values.
            difference: difference of the starting value, [run, *its shape].
            patches: functions of the differences of patched values, by number.
        """
        differences: dict[int, Tensor] = {}
        probed: dict[str, Tensor] = {}
        changes = patches or {}

        def arrive(index: int, moved: Tensor) -> None:
            differences[index] = changes[index](moved) if index in changes else moved
            probed.update(
                {probe.name: read_probe(probe, differences[index], values) for probe in self._wanted.get(index, [])}
            )

        computed = {index for operation in self.operations for index in operation.outputs}
        for index in self.patched:
            if index not in computed and index != self.start:  # nothing moves it but its patch
                arrive(index, values.clean(index).new_zeros(difference.shape[0], *values.clean(index).shape))
        arrive(self.start, difference)
        for step, operation in enumerate(self.operations):
            moved = apply(Call(operation, values, differences, difference.shape[0]))
            for index, change in zip(operation.outputs, moved, strict=True):
                arrive(index, change)
            for index in self._last_use[step]:
                differences.pop(index, None)
        return probed

    @cached_property
    def _wanted(self) -> dict[int, list[Probe]]:
        wanted: dict[int, list[Probe]] = {}
        for probe in self.probes:
            wanted.setdefault(probe.index, []).append(probe)
        return wanted

    @cached_property
    def _last_use(self) -> list[list[int]]:
        """Numbers of the values that nothing later needs, by step: their memory is freed."""
        last: dict[int, int] = {}
        for step, operation in enumerate(self.operations):
            last |= dict.fromkeys((*operation.inputs, *operation.outputs), step)
        by_step: list[list[int]] = [[] for _ in self.operations]
        for index, step in last.items():
            by_step[step].append(index)
        return by_step
