"""Reads names of components as researchers write them, and checks that the model has them.

`parse_names`, `parse_units` and `parse_groups` give sites; `named_heads`, `existing_heads` and `named_layers` the heads
and layers of a run over a corpus. How one name is spelled: `ablation.spellings`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from selfrepair.ablation.name_lists import (
    Given,
    Named,
    Place,
    Spelled,
    components_named,
    listed,
    parts_of,
    refused_number,
    whole_numbers,
)
from selfrepair.ablation.shape import Shaped, no_such, require_existing, shape_of
from selfrepair.ablation.sites import At, AtSpan, Attention, Head, Site
from selfrepair.ablation.spellings import WRITE, spelled
from selfrepair.errors import SelfRepairError

_LAYERS = re.compile(r"L?(\d{1,9})(?:\s*[-–]\s*L?(\d{1,9}))?", re.IGNORECASE)
_WRITE_HEADS = "Write heads as L9H6 (or 9.6), whole layers as L9, several layers as L8-L11."
_WRITE_LAYERS = "Write layers as 20-29, L26 or 3,5,7."
NamedHeads = list[tuple[int, int, int | None]]  # first layer, last layer, head (None: all)


def parse_names(given: Given, model: Shaped | None = None) -> list[Place]:
    """The components that names stand for, in any spelling of the field, each once.

    Example:
        >>> [str(site) for site in parse_names("9.6, a9.h9 MLP 5, L11N584@-1, blocks.9.attn.hook_z[:, :, 1]")]
        ['L9H6', 'L9H9', 'L5.mlp', 'L11N584@-1', 'L9H1']

    Args:
        given: names parted by commas or white space, `+` included; JSON as text; `@file`; or a sequence or mapping of
            names, sites and (layer, head) pairs. Groups (`movers=9.9,9.6`) and sets (`9.9+9.6`) are taken apart.
        model: a model, its anatomy or shape, or its numbers of heads by layer, to check that components exist; None to
            leave that out.

    Returns:
        Sites; where a name has a span (`9.6@S2`), an `AtSpan`, which `resolve` turns into a site.

    Raises:
        SelfRepairError: something is not a component, or is one that the model does not have. Numbers that are not text
            are refused: YAML, JSON and pandas read 9.10 as 9.1, another head.
    """
    return list(dict.fromkeys(place for places in parse_units(given, model).values() for place in places))


def parse_units(given: Given, model: Shaped | None = None, files: bool = True) -> dict[str, tuple[Place, ...]]:
    """Components to ablate together, by name: a group (`movers=9.9,9.6`), a set (`9.9+9.6`), or one component.

    Args:
        given: as for `parse_names`.
        model: as for `parse_names`.
        files: whether `@file` is followed.

    Raises:
        SelfRepairError: as for `parse_names`.
    """
    units = _collected(given, model, files, lambda entry, places: entry.group or "+".join(map(str, places)))
    if not units:
        raise SelfRepairError("No components were given.", WRITE)
    return units


def parse_groups(given: Given, model: Shaped | None = None, files: bool = True) -> dict[str, tuple[Place, ...]]:
    """Components by the group they were given in; those of none under the empty name.

    Args:
        given: as for `parse_names`.
        model: as for `parse_names`.
        files: whether `@file` is followed.

    Raises:
        SelfRepairError: as for `parse_names`.
    """
    return _collected(given, model, files, lambda entry, _places: entry.group)


def _collected(
    given: Given, model: Shaped | None, files: bool, name: Callable[[Named, list[Place]], str]
) -> dict[str, tuple[Place, ...]]:
    """All components by the name that each entry goes by, each component once; they exist if a model is given."""
    shape = None if model is None else shape_of(model)
    collected: dict[str, dict[Place, None]] = {}
    for entry in listed(given, files):
        places = components_named(entry, shape)
        collected.setdefault(name(entry, places), {}).update(dict.fromkeys(places))
    if shape is not None:
        require_existing((place for places in collected.values() for place in places), shape)
    return {title: tuple(places) for title, places in collected.items()}


def resolve(place: Place, spans: Mapping[str, tuple[int, int]], position: int, length: int | None = None) -> Site:
    """A site with the positions it has in one prompt.

    Example:
        >>> [str(resolve(place, {"S2": (4, 6)}, position=9)) for place in parse_names("9.6@S2 9.6@end MLP 5")]
        ['L9H6@4,5', 'L9H6@9', 'L5.mlp']

    Args:
        place: an entry of what `parse_names` returned.
        spans: the prompt's spans, by name: first position, and the one after the last.
        position: where the answer is read; `@end` is there, unless a span is called so.
        length: tokens of the prompt; negative positions are counted from its end. None leaves them as they are,
            counted from the end of the window.

    Raises:
        SelfRepairError: the prompt has no such span or position.
    """
    if isinstance(place, AtSpan):
        if place.span not in spans and place.span != "end":
            known = ", ".join(sorted({*spans, "end"}))
            raise SelfRepairError(f"A prompt has no span '{place.span}' for {place}.", f"It has: {known}.")
        start, stop = spans.get(place.span, (position, position + 1))
        place = At(place.site, tuple(range(start, stop)))
    if place.positions is None or length is None:
        return place
    absent = [position for position in place.positions if not -length <= position < length]
    if absent:
        raise SelfRepairError(f"There is no position {absent[0]} for {place}.", f"The prompt has {length} tokens.")
    positions = tuple(number % length for number in place.positions)
    return place if positions == place.positions or not isinstance(place, At) else At(place.site, positions)


def named_heads(given: Spelled) -> NamedHeads:
    """Heads as they are spelled, before it is known which heads there are.

    Args:
        given: heads and layers in one text, parted by commas; or a sequence of such texts, of (layer, head) pairs and
            of layers as whole numbers.

    Raises:
        SelfRepairError: for anything else.
    """
    if isinstance(given, str):
        return [_named_head(part) for entry in listed(given) for part in parts_of(entry)]
    numbered: NamedHeads = []
    for member in _members(given, "heads", _WRITE_HEADS):
        if isinstance(member, str):
            numbered += named_heads(member)
        elif (numbers := whole_numbers(member)) is not None and len(numbers) <= 2:
            numbered.append((numbers[0], numbers[0], numbers[1] if len(numbers) > 1 else None))
        elif isinstance(member, float):
            raise refused_number(member)
        else:
            raise SelfRepairError(f"{member!r} is not a head.", f"{_WRITE_HEADS} In Python also as (9, 6).")
    return numbered


def existing_heads(named: NamedHeads, heads: Sequence[int]) -> list[tuple[int, int]]:
    """The heads of a model, whole layers written out, each once.

    Args:
        named: result of `named_heads`.
        heads: number of heads of each layer.

    Raises:
        SelfRepairError: a head that the model does not have, or none at all.
    """
    last = len(heads) - 1
    if not named:
        raise SelfRepairError("No heads were given.", _WRITE_HEADS)
    absent = [entry for entry in named if entry[1] > last or entry[0] > entry[1] or not _there(entry, heads)]
    if absent:
        like = [Head(layer, head or 0) for layer, end, head in absent if layer == end]
        raise no_such([_spell(*entry) for entry in absent], heads, like)
    pairs = [
        (layer, number)
        for first, end, head in named
        for layer in range(first, end + 1)
        for number in (range(heads[layer]) if head is None else [head])
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
        raise SelfRepairError(f"{given!r} is not a set of layers.", _WRITE_LAYERS)
    for low, high in spans:
        if low < known[0] or high > known[-1]:
            wrong = high if high > known[-1] else low
            raise SelfRepairError(f"There is no layer {wrong}.", f"Layers are {known[0]} to {known[-1]}.")
    return sorted({layer for low, high in spans for layer in range(low, high + 1)} & set(known))


def _named_head(part: str | Site | AtSpan) -> tuple[int, int, int | None]:
    layers = _LAYERS.fullmatch(part) if isinstance(part, str) else None
    if layers is not None:
        return int(layers[1]), int(layers[2] or layers[1]), None
    try:
        site = spelled(part).site if isinstance(part, str) else part
    except SelfRepairError as problem:
        raise SelfRepairError(f"'{part}' is not a head.", f"{_WRITE_HEADS}") from problem
    if isinstance(site, Attention):
        return site.layer, site.layer, None
    if not isinstance(site, Head):
        raise SelfRepairError(f"'{part}' is not a head.", _WRITE_HEADS)
    return site.layer, site.layer, site.head


def _spans(part: object) -> list[tuple[int, int]]:
    numbers = None if isinstance(part, str) else whole_numbers(part)
    if numbers is not None and len(numbers) == 1:
        return [(numbers[0], numbers[0])]
    spans = []
    for text in str(part).split(",") if isinstance(part, str) else [repr(part)]:
        match = _LAYERS.fullmatch(text.strip())
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if text.strip() and low > high:
            raise SelfRepairError(f"'{text.strip()}' is not a set of layers.", _WRITE_LAYERS)
        spans += [(low, high)] if text.strip() else []
    return spans


def _members(given: Iterable[object], what: str, fix: str) -> Iterable[object]:
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise SelfRepairError(f"{given!r} is not a set of {what}.", fix)
    return given


def _there(named: tuple[int, int, int | None], heads: Sequence[int]) -> bool:
    first, last, head = named
    return head is None or all(head < heads[layer] for layer in range(first, last + 1))


def _spell(first: int, last: int, head: int | None) -> str:
    layers = f"L{first}" if first == last else f"L{first}-L{last}"
    return layers if head is None else f"{layers}H{head}"
