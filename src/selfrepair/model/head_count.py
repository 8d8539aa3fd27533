"""Compares the number of heads found in each layer with the number that the model declares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from selfrepair.model.anatomy import Block

_NAMES = ("num_heads", "num_attention_heads", "n_heads", "n_head")


def miscounts(blocks: Sequence[Block], configured: Any) -> list[int]:
    """How many heads too many or too few were found in each layer that has any; 0 where the model declares no number.

    A layer's own attention comes first: where heads were pruned, the configuration may be out of date.

    Args:
        blocks: the layers.
        configured: the configuration's number, one for all layers or one for each.
    """
    each = configured if isinstance(configured, list | tuple) else [configured] * len(blocks)
    differences = []
    for block, configured_heads in zip(blocks, each, strict=True):
        numbers = set(_declared_by(block)) or {number for number in [configured_heads] if isinstance(number, int)}
        if not block.heads:  # a mixer, or an MLP alone
            numbers = set()
        differences.append(min((abs(block.heads - number) for number in numbers), default=0))
    return differences


def _declared_by(block: Block) -> Iterator[int]:
    """Numbers that the modules around the output projection declare, by name or by the width of a head."""
    for module in block.module.modules():
        if module is block.module or module is block.projection or block.projection not in set(module.modules()):
            continue
        for owner in (module, getattr(module, "config", None)):
            yield from (value for name in _NAMES if isinstance(value := _attribute(owner, name), int))
        width, head_dim = block.heads * block.head_dim, _attribute(module, "head_dim")
        if isinstance(head_dim, int) and head_dim > 0 and width % head_dim == 0:
            yield width // head_dim


def _attribute(owner: Any, name: str) -> Any:
    try:
        return getattr(owner, name, None)
    except Exception:  # a configuration that raises where layers differ
        return None
