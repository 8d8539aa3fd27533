"""How many ablated runs share a batch: as many as are fastest, fewer where memory runs out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

from selfrepair.errors import SelfRepairError
from selfrepair.model.faults import is_out_of_memory

Run = TypeVar("Run")
_WORTHWHILE = 0.97  # a larger batch has to be this much faster per run: it costs memory


@dataclass
class Folding:
    """The present size of a chunk; a chunk that did not fit is asked for again in halves."""

    size: int
    failed: bool = False

    def chunks(self, runs: Sequence[Run]) -> Iterator[tuple[Run, ...]]:
        """Cuts runs in chunks of the present size, which may fall between chunks."""
        start = 0
        while start < len(runs):
            chunk = tuple(runs[start : start + self.size])
            self.failed = False
            yield chunk
            if not self.failed:
                start += len(chunk)


@contextmanager
def halving_when_memory_ends(folding: Folding, chunk: Sequence[object]) -> Iterator[None]:
    """Turns running out of memory on a chunk into smaller chunks.

    Raises:
        SelfRepairError: when a single run does not fit.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(chunk) == 1:
            raise SelfRepairError(
                "Memory ran out with a single ablated run in the batch.",
                "Take fewer windows at a time (--batch) or shorter ones (--length).",
            ) from error
        folding.size = len(chunk) // 2
        folding.failed = True


def fastest_fold(run: Callable[[int], None], most: int) -> int:
    """The fold with the least time per run, among 1, 2, 4 ... `most`; stops when it no longer pays.

    Args:
        run: does the given number of ablated runs in one batch.
        most: the largest fold there is work for.
    """
    best, best_time = 1, _seconds(run, 1)
    fold = 2
    while fold <= most:
        try:
            each = _seconds(run, fold) / fold
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                break
            raise
        if each > best_time * _WORTHWHILE:
            break
        best, best_time, fold = fold, each, fold * 2
    return best


def _seconds(run: Callable[[int], None], fold: int) -> float:
    """The faster of two runs, the first of which also warms up."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        run(fold)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)
