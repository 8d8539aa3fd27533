"""A race as rows for a file and for a table."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.table import Table

from race.accuracy import Truth
from race.peak import Peaks
from race.rounds import Outcome
from race.shapes import SHAPES
from race.task import Order
from race.work import sweep_operations

RIVALS = ("transformer_lens", "replay")
TELLING = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")  # what products are made of
Row = dict[str, Any]


def rows(order: Order, outcomes: Sequence[Outcome], peaks: Peaks, truth: Truth | None) -> list[Row]:
    """A row for each contestant; what was not measured is None, and `failure` says why."""
    units = order.units()
    work = sweep_operations(SHAPES[order.shape], [unit.layer for unit in units], order.windows, order.length)
    seconds = {outcome.engine: outcome.seconds for outcome in outcomes}
    common = {
        "shape": order.shape,
        "heads": len(units),
        "tokens": order.windows * order.length,
        "windows": order.windows,
        "length": order.length,
        "weights": str(order.weights),
        "operations": work,
        "peaks": peaks,
        "device": order.device,
        "machine": machine(order.device),
        "threads": order.threads or torch.get_num_threads(),
    }
    return [
        {
            "engine": outcome.engine,
            **common,
            **_speed(outcome, work, peaks, order),
            **_ratios(outcome.engine, seconds),
            **_errors(outcome, truth),
            **(outcome.laps[-1].facts if outcome.seconds else {}),
            "failure": outcome.failure,
        }
        for outcome in outcomes
    ]


def _speed(outcome: Outcome, work: float, peaks: Peaks, order: Order) -> Row:
    laps = outcome.seconds
    middle = median(laps) if laps else None
    best = max(rate for rate in peaks.values() if rate)

    def fraction(peak: float | None) -> float | None:
        return work / middle / peak if middle and peak else None

    return {
        "seconds": middle,
        "seconds_min": min(laps, default=None),
        "seconds_max": max(laps, default=None),
        "seconds_each": laps,
        "cpu_seconds_each": [lap.cpu_seconds for lap in outcome.laps] if laps else [],
        "load_each": [lap.load for lap in outcome.laps] if laps else [],
        "warm_up_seconds": outcome.warm_up,
        "tokens_per_second": order.windows * order.length / middle if middle else None,
        "peak_fraction": fraction(peaks["bfloat16"]),
        "peak_fraction_float32": fraction(peaks["float32"]),
        "peak_fraction_best": fraction(best),
    }


def _ratios(engine: str, seconds: dict[str, list[float]]) -> Row:
    """How many times as fast as each rival, round by round: median, least and most."""
    ratios: Row = {}
    for rival in RIVALS:
        pairs = list(zip(seconds.get(rival, []), seconds[engine], strict=False))
        values = [theirs / own for theirs, own in pairs]
        spread = {"median": median(values), "min": min(values), "max": max(values)} if values else None
        ratios[f"times_{rival}"] = spread
    return ratios


def _errors(outcome: Outcome, truth: Truth | None) -> Row:
    token, mean = truth.errors(outcome.laps[-1].effects) if truth and outcome.seconds else (None, None)
    return {
        "relative_error": token,
        "relative_error_of_means": mean,
        "checked_heads": len(truth.places) if truth else 0,
    }


def machine(device: str) -> str:
    """The processor or GPU, in words."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name()
    cores = f"{os.cpu_count()} cores"
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return f"{platform.processor() or platform.machine()}, {cores}"
    lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    flags = fields.get("flags", "").split()
    wanted = [flag for flag in TELLING if flag in flags]
    return f"{fields.get('model name', platform.machine())}, {cores} ({' '.join(wanted)})"


def table(found: Sequence[Row]) -> Table:
    """The rows as one prints them, fastest first; a contestant without a result says why."""
    shown = Table(box=None, padding=(0, 1))
    headings = (
        "engine",
        "seconds",
        "CPU s",
        "x TransformerLens",
        "x replay",
        "of bf16",
        "of best",
        "error",
        "of means",
        "MB",
    )
    for heading in headings:
        shown.add_column(heading, no_wrap=True, justify="left" if heading == "engine" else "right")
    shown.add_column("")
    for row in sorted(found, key=lambda row: row["seconds"] or float("inf")):
        if row["seconds"] is None:
            shown.add_row(row["engine"], *["-"] * (len(headings) - 1), row["failure"])
        else:
            shown.add_row(row["engine"], *_cells(row), f"ledger: {row['ledger']}, {row['precision']}")
    return shown


def _cells(row: Row) -> list[str]:
    return [
        _span(row["seconds"], row["seconds_min"], row["seconds_max"], 1 if row["seconds"] > 1 else 3),
        f"{median(row['cpu_seconds_each']):.1f}",
        *(_ratio(row[f"times_{rival}"]) for rival in RIVALS),
        *(_percent(row[key]) for key in ("peak_fraction", "peak_fraction_best")),
        *(_scientific(row[key]) for key in ("relative_error", "relative_error_of_means")),
        f"{row['peak_memory_mb']:.0f}",
    ]


def _span(middle: float, least: float, most: float, digits: int) -> str:
    return f"{middle:.{digits}f} ({least:.{digits}f}-{most:.{digits}f})"


def _ratio(ratio: dict[str, float] | None) -> str:
    return "-" if ratio is None else _span(ratio["median"], ratio["min"], ratio["max"], 2)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"


def _scientific(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


def peaks_in_words(peaks: Peaks) -> str:
    """One line on the machine's matrix products."""
    shown = (f"{name} {'-' if rate is None else f'{rate / 1e9:.0f}'}" for name, rate in peaks.items())
    return f"Matrix products on this machine, 10^9 operations a second: {', '.join(shown)}."


def disturbance(found: Sequence[Row]) -> str | None:
    """A warning where other programs were using the machine, to be told from the load average before the laps."""
    load = max((load for row in found for load in row["load_each"]), default=0.0)
    if load <= found[0]["threads"] + 0.5:
        return None
    return f"Others used this machine (load average up to {load:.1f}): seconds and peaks say little, CPU seconds more."
