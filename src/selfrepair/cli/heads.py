"""Heads as researchers write them: `L9H6,L10`."""

from __future__ import annotations

import re

from selfrepair.errors import SelfRepairError

_HEAD = re.compile(r"L?(\d+)(?:[H.](\d+))?", re.IGNORECASE)


def parse_heads(text: str, layers: int, heads: int) -> list[tuple[int, int]] | None:
    """(layer, head) pairs; None for an empty text, which means all heads.

    Args:
        text: comma-separated `L9H6`, `9.6` or `L9` (the whole layer).
        layers: layers of the model.
        heads: heads per layer.

    Raises:
        SelfRepairError: for anything else.
    """
    if not text.strip():
        return None
    pairs: list[tuple[int, int]] = []
    for part in text.split(","):
        match = _HEAD.fullmatch(part.strip())
        if match is None:
            raise SelfRepairError(f"'{part.strip()}' names no head.", "Write heads as L9H6, whole layers as L9.")
        layer, head = int(match[1]), match[2]
        pairs += [(layer, one) for one in range(heads)] if head is None else [(layer, int(head))]
    return pairs
