"""How far a contestant's effects are from those of the float64 reference engine, on a sample of heads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from race.contestants.ours import Ours
from race.task import Order, Task, spread
from selfrepair import load
from selfrepair.ablation.sites import Head


@dataclass(frozen=True)
class Truth:
    """Effects in float64, [head, window, position], of the heads at these places in the order's list."""

    places: tuple[int, ...]
    effects: np.ndarray

    def errors(self, effects: np.ndarray) -> tuple[float, float]:
        """Relative RMS errors of effects [unit, window, position]: per token, and of per-head means.

        Each is the RMS of the difference over the RMS of what it differs from.
        """
        sample = effects[list(self.places)]
        return _relative(sample, self.effects), _relative(_means(sample), _means(self.effects))


def reference(order: Order, heads: int | None) -> Truth:
    """The reference engine's effects with the model in float64, for so many of the order's heads (None: all).

    Weights, tokens and replacements are the same float32 numbers that the contestants get.
    """
    units = order.units()
    sample = units if heads is None else spread(units, heads)
    task = _doubled(order.task(), tuple(sample))
    effects = Ours("reference", task).sweep(task.units)
    return Truth(tuple(units.index(unit) for unit in sample), effects.cpu().numpy())


def _doubled(task: Task, units: tuple[Head, ...]) -> Task:
    network = task.network.double()
    return Task(network, load(network), task.tokens, tuple(value.double() for value in task.donated), units)


def _means(effects: np.ndarray) -> np.ndarray:
    return effects.mean((1, 2))


def _relative(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.sqrt(((found - true) ** 2).mean() / (true**2).mean()))
