"""What a run's outcome says about its own numbers, in words: the same in a warning, on the terminal and on a page."""

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
    """How far the engine moves the means that tables show, head by head; nothing where that was not measured."""
    found = outcome.get("engine_bias")
    if not found:
        return ""
    heads = [f"{one['head']} {one['bias']:+.1g} ({_share(one)})" for one in found]
    known = [one for one in found if math.isfinite(_ratio(one))] or found
    largest = max(known, key=lambda one: (_ratio(one), one["head"]))
    tokens = sum(one["tokens"] for one in found)
    return (
        f"Bias of the mean self-repair ({found[0]['filter']}) by the engine, logits, against its standard error (SE): "
        f"{', '.join(heads)}. Of these {len(found)} heads {largest['head']} has the largest, {_share(largest)} "
        f"(engine less replay on {tokens:,} of the means' tokens)."
    )


def _share(one: Mapping[str, Any]) -> str:
    ratio = _ratio(one)
    return f"{ratio:.2g} SE" if math.isfinite(ratio) else "its SE unknown"


def _ratio(one: Mapping[str, Any]) -> float:
    error = one["standard_error"]
    return abs(one["bias"]) / error if error and math.isfinite(error) else math.inf
