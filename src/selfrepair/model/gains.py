"""Gains by dimension: blocks that multiply each dimension of the stream, and of what is added, with a number of its
own (Doge, Zaya).

Which modules write is found by holding their outputs: with all writes held, what a block puts out follows its input
dimension by dimension, and nothing else. Their gains are found in the same way, by moving one of them at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Literal

import torch
from torch import Tensor, nn

from selfrepair.model.precision import running
from selfrepair.model.taps import Arguments, first_tensor, main_input, on_output, removing, with_input
from selfrepair.model.trace import Trace, trace

_FIT = 1e-9  # relative; all is double precision


Write = Literal["attention", "mixer", "stream"] | int
"""What writes: the number of an MLP, or `stream`, the block's output itself."""


@dataclass(frozen=True)
class Gains:
    """`block output = stream * input + sum of gain * write + constant`, dimension by dimension; [width] each.

    Attributes:
        stream: of the block's input.
        attention: of attention's write.
        mixer: of the mixer's.
        mlps: of each MLP's.
        later: what later blocks multiply the stream with.
    """

    stream: Tensor
    attention: Tensor
    mixer: Tensor
    mlps: tuple[Tensor, ...]
    later: Tensor

    def of(self, write: Write) -> Tensor:
        """The gain of a write."""
        if isinstance(write, int):
            return self.mlps[write]
        return {"attention": self.attention, "mixer": self.mixer, "stream": torch.ones_like(self.later)}[write]


def without_gains(mlps: int, like: Tensor) -> Gains:
    """Those of a block that has none, below or above others that do.

    Args:
        mlps: how many MLPs it has.
        like: some tensor [..., width] of the model.
    """
    one = like.new_ones(like.shape[-1])
    return Gains(one, one, one, (one,) * mlps, one)


@dataclass(frozen=True)
class FoundGains:
    """What `Holding.gains` finds: gains of the stream and of each write, and what else is added, [width] each."""

    stream: Tensor
    writes: list[Tensor]
    constant: Tensor


class Holding:
    """A block whose writes can be held at their outputs in one forward, and moved.

    Args:
        block: the block, in double precision.
        arguments: of a call of it.
        clean: its forward on some random input.
    """

    def __init__(self, block: nn.Module, arguments: Arguments, clean: Trace) -> None:
        self._block, self._arguments, self._clean = block, arguments, clean

    def gains(self, writes: Sequence[str]) -> FoundGains | None:
        """Gains of the stream and of some modules' outputs; None where these are not all that the block adds.

        Args:
            writes: paths of the modules.
        """
        clean = self._clean
        step, other = (torch.randn_like(clean.entered[0, 0]) for _ in range(2))
        moves: list[Callable[[Tensor], Tensor]] = [
            lambda by: self._left(writes, None, by),
            *(partial(self._left, writes, name) for name in writes),
        ]
        found = []
        for move in moves:
            moved, again = (move(by) - clean.left for by in (torch.ones_like(step), step * other))
            gain = moved.flatten(0, -2).mean(0)
            if not self._same(moved, gain) or not self._same(again, gain * step * other):
                return None
            found.append(gain)
        accounted = found[0] * clean.entered
        for name, gain in zip(writes, found[1:], strict=True):
            accounted = accounted + gain * clean.calls[name].output.reshape(clean.left.shape)
        rest = clean.left - accounted
        constant = rest.flatten(0, -2).mean(0)
        fits = self._same(rest, constant) and bool((found[0] != 0).all())
        return FoundGains(found[0], found[1:], constant) if fits else None

    def _same(self, found: Tensor, wanted: Tensor) -> bool:
        return bool((found - wanted).abs().max() < _FIT * self._clean.left.abs().max())

    def _left(self, writes: Sequence[str], moved: str | None, by: Tensor) -> Tensor:
        """What the block puts out with all writes held, but for one that moves, or its input."""

        def hold(name: str, value: Tensor) -> Tensor:
            held = self._clean.calls[name].output.reshape(value.shape)
            return held + by if name == moved else held

        taps = [on_output(self._block.get_submodule(name), partial(hold, name)) for name in writes]
        entered = self._clean.entered + by if moved is None else self._clean.entered
        with removing(*taps):
            args, kwargs = with_input(self._arguments, entered)
            return first_tensor(self._block(*args, **kwargs)).reshape(self._clean.left.shape)


def gained_writes(holding: Holding, movers: Sequence[str], others: Sequence[str]) -> list[str] | None:
    """The writes of a block with gains: of what moves information and, where there is one, of an MLP.

    Args:
        holding: the block.
        movers: outputs that may be attention's or the mixer's write.
        others: outputs that may be the MLP's.
    """
    for chosen in product(movers, (None, *others)):
        writes = [name for name in chosen if name is not None]
        found = holding.gains(writes)
        if found is not None and all(gain.abs().max() > _FIT for gain in found.writes):
            return writes
    return None


def read_gains(module: nn.Module, arguments: Arguments, writes: Sequence[str]) -> FoundGains | None:
    """The gains that a block's own weights make, read from a copy in double precision.

    Args:
        module: the block.
        arguments: of a call of it, in double precision.
        writes: paths of the modules that write.
    """
    with running(torch.float64), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        studied = copy.deepcopy(module).cpu().double().eval()
        hidden = torch.randn_like(main_input(arguments))
        return Holding(studied, arguments, trace(studied, arguments, hidden)).gains(writes)
