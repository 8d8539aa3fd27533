"""Cost and memory against the amount of text: one engine of ours, a fresh process for each amount."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.table import Table

from race.contestants.ours import Ours
from race.peak import synchronise
from race.rows import machine
from race.runner import peak_memory
from race.task import Order


@dataclass(frozen=True)
class Point:
    """What one amount of text cost.

    Attributes:
        ready_mb: peak memory when the model was there and one batch had been swept.
        peak_mb: peak memory at the end.
    """

    engine: str
    tokens: int
    batches: int
    seconds: float
    ready_mb: float
    peak_mb: float


def scaling(engine: str, order: Order, amounts: Sequence[int]) -> list[dict[str, Any]]:
    """A row for each number of tokens, which has to be a multiple of the order's batch."""
    batch = order.windows * order.length
    for amount in amounts:
        if amount % batch:
            raise ValueError(f"{amount} tokens are not a multiple of a batch of {batch}")
    context = multiprocessing.get_context("spawn")
    found = []
    for amount in amounts:
        with context.Pool(1) as pool:
            point: Point = pool.apply(measure, (engine, order, amount // batch))
        found.append(
            {**vars(point), "shape": order.shape, "heads": len(order.units()), "machine": machine(order.device)}
        )
    return found


def measure(engine: str, order: Order, batches: int) -> Point:
    """Sweeps so many batches of different text one after another, as a run over a corpus does."""
    task = order.task()
    contestant = Ours(engine, task)
    contestant.sweep(task.units)
    synchronise(order.device)
    ready = peak_memory(order.device)
    spent = 0.0
    for batch in range(batches):
        contestant.task = replace(task, tokens=task.tokens.roll(batch + 1, 1))
        start = time.perf_counter()
        contestant.sweep(task.units)
        synchronise(order.device)
        spent += time.perf_counter() - start
    tokens = batches * task.tokens.numel()
    return Point(engine, tokens, batches, spent, ready, peak_memory(order.device))


def table(found: Sequence[dict[str, Any]]) -> Table:
    """Tokens, seconds, tokens a second, memory."""
    shown = Table("tokens", "seconds", "tokens/s", "MB after one batch", "MB at the end")
    for row in found:
        rate = row["tokens"] / row["seconds"]
        shown.add_row(
            f"{row['tokens']:,}",
            f"{row['seconds']:.1f}",
            f"{rate:.1f}",
            f"{row['ready_mb']:.0f}",
            f"{row['peak_mb']:.0f}",
        )
    return shown
