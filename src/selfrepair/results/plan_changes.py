"""Differences between two plans, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice

_MOST, _LONGEST = 8, 80  # changes that are named; letters of a value


def plan_changes(was: object, now: object) -> list[str]:
    """`key: was X, is Y` for everything that differs, keys of nested parts joined by dots; the first few."""
    changes = list(islice(_pairs(was, now, ""), _MOST + 1))
    lines = [f"{name}: was {_short(before)}, is {_short(after)}" for name, before, after in changes[:_MOST]]
    return lines + ["and more"] * (len(changes) > _MOST)


def _pairs(was: object, now: object, name: str) -> Iterator[tuple[str, object, object]]:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in [*was, *(key for key in now if key not in was)]:
            yield from _pairs(was.get(key), now.get(key), f"{name}.{key}" if name else str(key))
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for index, (before, after) in enumerate(zip(was, now, strict=True)):
            yield from _pairs(before, after, f"{name}[{index}]")
    elif was != now or type(was) is not type(now):
        yield name, was, now


def _short(value: object) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
