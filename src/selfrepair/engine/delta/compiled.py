"""Programs as compiled graphs: one per shape of block, with weights and clean values as inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from selfrepair.effects.readouts import Reading
from selfrepair.engine.delta.matmul import Precision, Prepared
from selfrepair.engine.delta.program import Program, TapeValues
from selfrepair.engine.delta.rules import Values

Key = tuple[str, int | str, bool]


def _look_up(values: Values, key: Key) -> Tensor | Prepared:
    kind, which, transposed = key
    if isinstance(which, str):
        return values.direction(which)
    return values.clean(which) if kind == "clean" else values.prepared(which, transposed)


@dataclass(frozen=True)
class _Inputs:
    """Values as inputs of a graph (`rules.Values`): noted when first asked for, or given."""

    source: Values
    held: dict[Key, Tensor | Prepared] = field(default_factory=dict)

    @property
    def precision(self) -> Precision:
        return self.source.precision

    def clean(self, index: int) -> Tensor:
        return self._input(("clean", index, False))  # type: ignore[return-value]

    def prepared(self, index: int, transposed: bool) -> Prepared:
        return self._input(("weight", index, transposed))  # type: ignore[return-value]

    def direction(self, name: str) -> Tensor:
        return self._input(("direction", name, False))  # type: ignore[return-value]

    def is_weight(self, index: int) -> bool:
        return self.source.is_weight(index)

    def jumps(self, index: int) -> bool:
        return self.source.jumps(index)

    @property
    def reading(self) -> Reading:
        return self.source.reading

    @property
    def shape(self) -> torch.Size:
        return self.source.shape

    def _input(self, key: Key) -> Tensor | Prepared:
        if key not in self.held:
            self.held[key] = _look_up(self.source, key)
        return self.held[key]


def _tanh(value: Tensor) -> Tensor:
    """`tanh` by the exponential, right to 1e-7: its own function in vector libraries takes several times as long."""
    return 2 * torch.sigmoid(2 * value) - 1


def _gelu(value: Tensor, approximate: str = "none") -> Tensor:
    """GELU by its approximation with `tanh`; the exact one stays the compiler's."""
    if approximate != "tanh":
        return NotImplemented  # type: ignore[no-any-return]
    inner = math.sqrt(2 / math.pi) * (value + 0.044715 * value * value * value)
    return value * torch.sigmoid(2 * inner)


def _power(value: Tensor, exponent: float) -> Tensor:
    """A cube by products; other powers stay the compiler's."""
    return value * value * value if exponent == 3 else NotImplemented


_DECOMPOSED: dict[Any, Callable[..., Tensor]] = {
    torch.ops.aten.tanh.default: _tanh,
    torch.ops.aten.gelu.default: _gelu,
    torch.ops.aten.pow.Tensor_Scalar: _power,
}


class CompiledProgram:
    """A program traced and compiled for one number of runs; gives what `Program.run` gives.

    Args:
        program: the program to compile.
        values: values of any layer with the block shape that it is for.
        difference: an example.
    """

    def __init__(self, program: Program, values: TapeValues, difference: Tensor) -> None:
        noted = _Inputs(values)
        self._names = list(program.run(noted, difference))
        self._keys = list(noted.held)
        self.runs = difference.shape[0]

        def flat(difference: Tensor, *inputs: Tensor | Prepared) -> list[Tensor]:
            given = _Inputs(values, dict(zip(self._keys, inputs, strict=True)))
            probed = program.run(given, difference)
            return [probed[name] for name in self._names]

        graph = make_fx(flat, _DECOMPOSED)(difference, *noted.held.values())
        self._graph: Callable[..., list[Tensor]] = torch.compile(graph, dynamic=False, fullgraph=True)

    def run(self, values: Values, difference: Tensor) -> dict[str, Tensor]:
        """See `Program.run`; fewer runs than it was compiled for are filled up with runs of no difference."""
        runs = difference.shape[0]
        if runs < self.runs:
            filling = difference.new_zeros(self.runs - runs, *difference.shape[1:])
            difference = torch.cat([difference, filling])
        probed = self._graph(difference, *(_look_up(values, key) for key in self._keys))
        return {name: padded[:runs] for name, padded in zip(self._names, probed, strict=True)}
