"""Heads as researchers write them: `L9H6,L10`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfrepair.ablation.units import no_heads, which_heads
from selfrepair.errors import SelfRepairError

_HEAD = re.compile(r"L?(\d+)(?:[H.](\d+))?", re.IGNORECASE)
Named = list[tuple[int, int | None]]


def named_heads(text: str) -> Named | None:
    """(layer, head) pairs, the head None for a whole layer; None for an empty text, which means all heads.

    Args:
        text: comma-separated `L9H6`, `9.6` or `L9` (the whole layer).

    Raises:
        SelfRepairError: for anything else.
    """
    if not text.strip():
        return None
    found: Named = []
    for part in text.split(","):
        match = _HEAD.fullmatch(part.strip())
        if match is None:
            raise SelfRepairError(f"'{part.strip()}' names no head.", "Write heads as L9H6, whole layers as L9.")
        found.append((int(match[1]), None if match[2] is None else int(match[2])))
    return found


def existing_heads(named: Named | None, heads: Sequence[int]) -> list[tuple[int, int]] | None:
    """The heads of a model, whole layers written out; None for all.

    Args:
        named: from `named_heads`.
        heads: how many each layer of the model has.

    Raises:
        SelfRepairError: a head that the model does not have.
    """
    if named is None:
        return None
    there = dict(enumerate(heads))
    pairs = [
        (layer, one)
        for layer, head in named
        for one in (range(there.get(layer, max(heads))) if head is None else [head])
    ]
    absent = [(layer, head) for layer, head in pairs if head >= there.get(layer, 0)]
    if absent:
        raise SelfRepairError(no_heads(absent), which_heads(heads))
    return pairs


def require_heads(named: Named | None, model: str, revision: str | None) -> None:
    """Refuses heads that a model's configuration says it has not, before its weights are loaded.

    Says nothing where there is no such configuration to read: loading tells what is amiss.

    Raises:
        SelfRepairError: a head that the model does not have.
    """
    config = None if named is None else _configuration(model, revision)
    layers, heads = (getattr(config, name, None) for name in ("num_hidden_layers", "num_attention_heads"))
    if isinstance(layers, int) and isinstance(heads, int):
        existing_heads(named, [heads] * layers)


def _configuration(model: str, revision: str | None) -> Any:
    from transformers import AutoConfig

    if model == "default" or Path(model).suffix == ".gguf":
        return None
    try:
        return AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False).get_text_config()
    except Exception:  # each library has its own kinds, and `load` has the words for them
        return None
