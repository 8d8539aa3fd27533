"""The fastest matrix product the machine does, by type of number: what a sweep is measured against."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

SIZES = {
    "cpu": ((512, 768, 3072), (1536, 768, 3072), (3072, 3072, 768), (2048, 2048, 2048)),  # rows, inner, outer
    "cuda": ((4096, 4096, 4096), (8192, 8192, 8192), (16384, 4096, 4096)),
}
SECONDS = 0.3
"""How long each product is repeated; the best repetition counts."""

Peaks = dict[str, float | None]
"""Operations per second by type of number; None where the machine (or torch on it) cannot multiply it."""


def measure_peaks(device: str) -> Peaks:
    """Operations per second of float32, bfloat16 and int8 products (int8 summed in int32), best over sizes."""
    kinds = {"float32": _float_product(torch.float32), "bfloat16": _float_product(torch.bfloat16), "int8": _int_product}
    sizes = SIZES[torch.device(device).type]
    return {name: _best([_rate(kind, size, device) for size in sizes]) for name, kind in kinds.items()}


def best_peaks(measured: list[Peaks]) -> Peaks:
    """Per type, the highest of several measurements: others may have been using the machine during the rest."""
    return {name: _best([peaks[name] for peaks in measured]) for name in measured[0]}


def synchronise(device: str) -> None:
    """Waits for a GPU to finish."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def _float_product(dtype: torch.dtype) -> Callable[[int, int, int, str], Callable[[], Tensor]]:
    def product(rows: int, inner: int, outer: int, device: str) -> Callable[[], Tensor]:
        left = torch.randn(rows, inner, device=device).to(dtype)
        right = torch.randn(outer, inner, device=device).to(dtype)
        return lambda: functional.linear(left, right)

    return product


def _int_product(rows: int, inner: int, outer: int, device: str) -> Callable[[], Tensor]:
    left = torch.randint(-127, 128, (rows, inner), dtype=torch.int8, device=device)
    right = torch.randint(-127, 128, (outer, inner), dtype=torch.int8, device=device)
    return lambda: torch._int_mm(left, right.t())


def _rate(
    kind: Callable[[int, int, int, str], Callable[[], Tensor]], size: tuple[int, int, int], device: str
) -> float | None:
    """Operations per second of one product, or None where it is not supported."""
    rows, inner, outer = size
    try:
        product = kind(rows, inner, outer, device)
        product()
    except RuntimeError:
        return None
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        synchronise(device)
        start = time.perf_counter()
        product()
        synchronise(device)
        best = min(best, time.perf_counter() - start)
    return 2 * rows * inner * outer / best


def _best(rates: list[float | None]) -> float | None:
    return max((rate for rate in rates if rate is not None), default=None)
