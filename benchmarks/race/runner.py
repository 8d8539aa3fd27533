"""One contestant at work, in whatever process it has been put."""

from __future__ import annotations

import os
import resource
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from race.contestants import enter
from race.peak import synchronise
from race.task import Order


@dataclass(frozen=True)
class Lap:
    """One timed sweep.

    Attributes:
        seconds: by the clock on the wall.
        cpu_seconds: of this process, all threads; far less than threads x seconds where others held the machine.
        load: how many processes wanted to run just before, over the last minute.
        effects: [unit, window, position].
        facts: what the contestant says of itself, and peak memory.
    """

    seconds: float
    cpu_seconds: float
    load: float
    effects: np.ndarray
    facts: dict[str, Any]


class Runner:
    """Makes the task and the contestant, warms up on two heads, then runs laps."""

    def __init__(self, name: str, order: Order) -> None:
        self.order, self.task = order, order.task()
        self.contestant = enter(name, self.task)

    def warm_up(self) -> float:
        """Sweeps the first and the last head, so that nothing is done for the first time later. Seconds."""
        return self._timed((self.task.units[0], self.task.units[-1]))[0]

    def lap(self) -> Lap:
        """Sweeps all heads."""
        load, cpu = os.getloadavg()[0], time.process_time()
        seconds, effects = self._timed(self.task.units)
        cpu = time.process_time() - cpu
        facts = {**self.contestant.facts(), "peak_memory_mb": peak_memory(self.order.device)}
        return Lap(seconds, cpu, load, effects.double().cpu().numpy(), facts)

    def _timed(self, units: tuple[Any, ...]) -> tuple[float, torch.Tensor]:
        synchronise(self.order.device)
        start = time.perf_counter()
        effects = self.contestant.sweep(units)
        synchronise(self.order.device)
        return time.perf_counter() - start, effects


def peak_memory(device: str) -> float:
    """Megabytes that this process has held at most: of the GPU where there is one, resident otherwise."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
