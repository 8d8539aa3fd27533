"""Heads and layers as researchers write them, the same everywhere: `L9H6`, `9.6`, `L9`, `L8-L11`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from selfrepair.errors import SelfRepairError

_HEAD = re.compile(r"L?(\d{1,9})(?:[H.](\d{1,9}))?", re.IGNORECASE)
_LAYERS = re.compile(r"L?(\d{1,9})(?:\s*[-–]\s*L?(\d{1,9}))?", re.IGNORECASE)
_WRITE_HEADS = "Write heads as L9H6 (or 9.6), whole layers as L9, several layers as L8-L11."
_WRITE_LAYERS = "Write layers as 20-29, L26 or 3,5,7."
Spelled = str | Iterable[object]
Named = list[tuple[int, int, int | None]]  # first layer, last layer, head (None: all)


def named_heads(given: Spelled) -> Named:
    """What is spelled, before it is known which heads there are.

    Args:
        given: heads and layers in one text, parted by commas; or a sequence of such texts, of (layer, head) pairs and
            of layers as whole numbers.

    Raises:
        SelfRepairError: for anything else.
    """
    if isinstance(given, str):
        return [_head(part.strip()) for part in given.split(",") if part.strip()]
    found: Named = []
    for one in _members(given, "heads", _WRITE_HEADS):
        if isinstance(one, str):
            found += named_heads(one)
        elif (numbers := _whole(one)) is not None and len(numbers) <= 2:
            found.append((numbers[0], numbers[0], numbers[1] if len(numbers) > 1 else None))
        else:
            raise SelfRepairError(f"{one!r} names no head.", f"{_WRITE_HEADS} In Python also as (9, 6).")
    return found


def existing_heads(named: Named, heads: Sequence[int]) -> list[tuple[int, int]]:
    """The heads of a model, whole layers written out, each once.

    Args:
        named: from `named_heads`.
        heads: how many heads each layer has.

    Raises:
        SelfRepairError: a head that the model does not have, or none at all.
    """
    last = len(heads) - 1
    absent = [_spell(*one) for one in named if one[1] > last or one[0] > one[1]]
    absent += [_spell(*one) for one in named if one[1] <= last and not _there(one, heads)]
    if absent or not named:
        there = f"heads 0 to {heads[0] - 1}"
        if len(set(heads)) > 1:
            there = f"different numbers of heads; in order they have {', '.join(map(str, heads))}"
        raise SelfRepairError(
            f"There are no heads {', '.join(absent)}." if absent else "No heads were given.",
            f"The model has layers 0 to {last} with {there}.",
        )
    pairs = [
        (layer, one)
        for first, end, head in named
        for layer in range(first, end + 1)
        for one in (range(heads[layer]) if head is None else [head])
    ]
    return list(dict.fromkeys(pairs))


def named_layers(given: Spelled, known: Sequence[int]) -> list[int]:
    """Layers in order, each once.

    Args:
        given: `20-29,3` or `L26`; or a sequence of such texts and of whole numbers.
        known: the layers there are.

    Raises:
        SelfRepairError: something else, or a layer that is not there.
    """
    parts = [given] if isinstance(given, str) else list(_members(given, "layers", _WRITE_LAYERS))
    spans = [span for part in parts for span in _spans(part)]
    if not spans:
        raise SelfRepairError(f"{given!r} names no layers.", _WRITE_LAYERS)
    for low, high in spans:
        if low < known[0] or high > known[-1]:
            wrong = high if high > known[-1] else low
            raise SelfRepairError(f"There is no layer {wrong}.", f"Layers are {known[0]} to {known[-1]}.")
    return sorted({layer for low, high in spans for layer in range(low, high + 1)} & set(known))


def _head(text: str) -> tuple[int, int, int | None]:
    match = _HEAD.fullmatch(text)
    if match is not None:
        layer = int(match[1])
        return layer, layer, None if match[2] is None else int(match[2])
    layers = _LAYERS.fullmatch(text)
    if layers is None:
        raise SelfRepairError(f"'{text}' names no head.", _WRITE_HEADS)
    return int(layers[1]), int(layers[2]), None


def _spans(part: object) -> list[tuple[int, int]]:
    numbers = None if isinstance(part, str) else _whole(part)
    if numbers is not None and len(numbers) == 1:
        return [(numbers[0], numbers[0])]
    spans = []
    for text in str(part).split(",") if isinstance(part, str) else [repr(part)]:
        match = _LAYERS.fullmatch(text.strip())
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if text.strip() and low > high:
            raise SelfRepairError(f"'{text.strip()}' names no layers.", _WRITE_LAYERS)
        spans += [(low, high)] if text.strip() else []
    return spans


def _whole(one: object) -> list[int] | None:
    """Whole numbers of one number or a pair; None for anything else, booleans and negative numbers included."""
    parts = list(one) if isinstance(one, Iterable) and not isinstance(one, str | bytes) else [one]
    found = []
    for part in parts:
        index = None if isinstance(part, bool) else getattr(part, "__index__", None)
        if index is None or index() < 0:
            return None
        found.append(int(index()))
    return found or None


def _members(given: Iterable[object], what: str, fix: str) -> Iterable[object]:
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise SelfRepairError(f"{given!r} names no {what}.", fix)
    return given


def _there(named: tuple[int, int, int | None], heads: Sequence[int]) -> bool:
    first, last, head = named
    return head is None or all(head < heads[layer] for layer in range(first, last + 1))


def _spell(first: int, last: int, head: int | None) -> str:
    layers = f"L{first}" if first == last else f"L{first}-L{last}"
    return layers if head is None else f"{layers}H{head}"
