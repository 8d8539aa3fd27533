"""Files as accidents and attackers leave them: bytes and JSON, changed at random, the same way in every run."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

LARGE = (2**31 - 1, 2**31, 2**32, 10**7, 10**12, 2**63, 2**64, -(2**63), 10**40)
NUMBERS = (0, 1, -1, 2, 7, 255, 2**16, *LARGE, 0.5, 1e308)
VALUES: tuple[Any, ...] = (
    *NUMBERS,
    *(None, True, False, "", "x", "\x00", "\x1b[31m", "\ud800", "../x", "/dev/zero", "NaN", "Infinity", "-Infinity"),
    *([], {}, [[]], [None], {"": None}, [1] * 50, "y" * 3000),
    float("nan"),
    float("inf"),
)
SIGNS = (b"\0", b"\xff", b"\n", b"\xef\xbb\xbf", b"\x80", b'"', b"{", b"]", b"\x1b[2J")
BYTES = (b"", *SIGNS, b"9" * 30, b"\0" * 64, b"\xff" * 64)


def mutated(content: bytes, draws: random.Random) -> bytes:
    """Content that differs from the given one in one or a few places."""
    for _ in range(draws.choice((1, 1, 1, 2, 4))):
        content = draws.choice(_CHANGES)(content, draws)
    return content


def mutated_json(content: bytes, draws: random.Random) -> bytes:
    """JSON of which one entry is another, is gone or is new; or bytes that differ anywhere, sometimes."""
    if draws.random() < 0.25:
        return mutated(content, draws)
    whole = copy.deepcopy(json.loads(content))
    holder, key = draws.choice(list(_places(whole)))
    action = draws.random()
    if action < 0.15:
        del holder[key]
    elif action < 0.25 and isinstance(holder, dict):
        holder[draws.choice(("", "x", f"{key} ", str(key).upper()))] = holder[key]
    elif action < 0.4 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] = draws.choice((holder[key] + 1, holder[key] - 1, -holder[key], holder[key] * 10, str(holder[key])))
    else:
        holder[key] = draws.choice(VALUES)
    return json.dumps(whole).encode()


def _places(value: Any) -> Any:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        yield value, key
        yield from _places(inner)


def _span(content: bytes, draws: random.Random, most: int = 64) -> tuple[int, int]:
    start = draws.randrange(len(content) + 1)
    return start, min(len(content), start + draws.randrange(1, most))


def _flip(content: bytes, draws: random.Random) -> bytes:
    if not content:
        return b"x"
    place = draws.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << draws.randrange(8)]) + content[place + 1 :]


def _put(content: bytes, draws: random.Random) -> bytes:
    start, end = _span(content, draws, 8)
    return content[:start] + draws.choice(BYTES) + content[end:]


def _insert(content: bytes, draws: random.Random) -> bytes:
    start, _ = _span(content, draws)
    some = draws.choice((draws.choice(BYTES), draws.randbytes(draws.randrange(1, 20))))
    return content[:start] + some + content[start:]


def _cut(content: bytes, draws: random.Random) -> bytes:
    start, end = _span(content, draws, 200)
    return content[:start] + content[end:]


def _shorten(content: bytes, draws: random.Random) -> bytes:
    return content[: draws.randrange(len(content) + 1)]


def _zero(content: bytes, draws: random.Random) -> bytes:
    start, end = _span(content, draws, 200)
    return content[:start] + b"\0" * (end - start) + content[end:]


def _repeat(content: bytes, draws: random.Random) -> bytes:
    start, end = _span(content, draws, 200)
    return content[:end] + content[start:end] * draws.randrange(1, 4) + content[end:]


def _swap(content: bytes, draws: random.Random) -> bytes:
    start, end = _span(content, draws)
    other = draws.randrange(len(content) + 1)
    low, high = sorted((start, other))
    return content[:low] + content[high:] + content[low:high] if end else content


def _head(content: bytes, draws: random.Random) -> bytes:
    """Where lengths and counts are."""
    place = draws.randrange(min(len(content), 64) + 1)
    return content[:place] + draws.choice((b"\xff" * 8, b"\0" * 8, b"\x7f", draws.randbytes(4))) + content[place + 8 :]


def _tail(content: bytes, draws: random.Random) -> bytes:
    """Where Parquet and HDF5 keep theirs."""
    place = max(0, len(content) - draws.randrange(1, 600))
    return content[:place] + draws.randbytes(draws.randrange(1, 5)) + content[place + draws.randrange(1, 5) :]


def _append(content: bytes, draws: random.Random) -> bytes:
    return content + draws.choice((b"\0", b"\n", b"x" * 100, content[:200]))


_CHANGES = (_flip, _flip, _flip, _put, _insert, _cut, _shorten, _zero, _repeat, _swap, _head, _tail, _append)
