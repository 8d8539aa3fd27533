"""Warnings and failed checks of a run's outcome, in words, for warnings, the terminal and the page alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

FAILED = "failed its checks"  # status of a run whose numbers must not be used


def failed(outcome: Mapping[str, Any]) -> list[str]:
    """Checks that fail, in whole sentences; with one, the numbers must not be used."""
    return list(outcome.get("failed_checks", ()))


def warned(outcome: Mapping[str, Any]) -> list[str]:
    """What a reader has to know before using the numbers, in whole sentences."""
    return [*outcome.get("warnings", ()), *filter(None, [bias_in_words(outcome)])]


def bias_in_words(outcome: Mapping[str, Any]) -> str:
    """How far the engine moves the means that tables show, head by head; empty if that was not measured."""
    biases = outcome.get("engine_bias")
    if not biases:
        return ""
    heads = [f"{head['head']} {head['bias']:+.1g} ({_share(head)})" for head in biases]
    known = [head for head in biases if math.isfinite(_ratio(head))] or biases
    largest = max(known, key=lambda head: (_ratio(head), head["head"]))
    tokens = sum(head["tokens"] for head in biases)
    return (
        f"Bias of the mean self-repair ({biases[0]['filter']}) by the engine, logits, against its standard error (SE): "
        f"{', '.join(heads)}. Of these {len(biases)} heads {largest['head']} has the largest, {_share(largest)} "
        f"(engine less replay on {tokens:,} of the means' tokens)."
    )


def _share(bias: Mapping[str, Any]) -> str:
    ratio = _ratio(bias)
    return f"{ratio:.2g} SE" if math.isfinite(ratio) else "its SE unknown"


def _ratio(bias: Mapping[str, Any]) -> float:
    error = bias["standard_error"]
    return abs(bias["bias"]) / error if error and math.isfinite(error) else math.inf
