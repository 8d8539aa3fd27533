"""Splits lists of names: text, JSON, `@file`, groups, sets; or sequences and mappings of Python."""

from __future__ import annotations

import numbers
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from selfrepair.ablation.shape import Shape, key_group, no_such
from selfrepair.ablation.sites import At, AtSpan, Attention, Head, Site
from selfrepair.ablation.spellings import WRITE, Component, End, spelled
from selfrepair.errors import SelfRepairError
from selfrepair.reading import parsed_json, read_bytes

Spelled = str | Iterable[object]
Given = str | Site | AtSpan | Iterable[object] | Mapping[str, object]

_FILE_BYTES = 4 * 2**20
_ATOM = re.compile(  # positions keep their commas: `@-2,-1`
    r"(?:@-?\d{1,9}(?:\s*,\s*-?\d{1,9}(?![\w.:]))+|(?<![\w.])(?:mlp|head|attn|resid)[ \t]+(?=\w)|[^\s,;()\[\]]"
    r"|\[[^\[\]]*\]|\([^()]*\))+",
    re.IGNORECASE,
)
_AROUND = re.compile(r"\s*(->|→|\+|=)\s*")
_RANGE_DASH = re.compile(r"(?<=\d)\s*[-–]\s*(?=L\d)|(?<=\d)\s+[-–]\s+(?=\d)", re.IGNORECASE)
_GROUP = re.compile(r"([^\W\d][\w-]*)=(.*)", re.DOTALL)
_LAYERS = re.compile(r"L(\d{1,9})[-–]L?(\d{1,9})", re.IGNORECASE)
_DEPTH = 20
_MOST_LAYERS = 10_000  # in a range, where the model is not known
Place = Site | AtSpan


class NameExpanded(UserWarning):
    """A name stood for an input of heads, and the heads were taken."""


class Named(NamedTuple):
    """One entry of a list: a name, or a site that is one already; a name may join several by `+`."""

    group: str
    name: str | Site | AtSpan


class Written(float):
    """A number of a file with its digits: JSON reads `9.10` as 9.1."""

    text: str

    def __new__(cls, text: str) -> Written:
        """A number with its text."""
        made = super().__new__(cls, text)
        made.text = text
        return made


def listed(given: object, files: bool = True) -> Iterator[Named]:
    """Entries of a list of names, in order.

    Args:
        given: text, parted by commas or white space, with groups as in `movers=9.9,9.6`; JSON as text; `@file`; or
            a sequence or mapping of such things, of sites and of (layer, head) pairs.
        files: whether `@file` is followed; never for names that were themselves read from a file.

    Raises:
        SelfRepairError: a number that is not text, a file that cannot be read, or something else.
    """
    if files and isinstance(given, str) and given.lstrip().startswith("@"):
        given = file_text(Path(given.strip()[1:]))
    yield from _entries(given, "", 0)


def file_text(path: Path) -> str:
    """A file of names, comments left out (`#` to the end of a line).

    Raises:
        SelfRepairError: it cannot be read.
    """
    try:
        text = read_bytes(path, _FILE_BYTES).decode("utf-8")
    except (OSError, ValueError) as problem:
        raise SelfRepairError(
            f"{path} cannot be read as text: {problem}.", "Give `@` and a file with names of components."
        ) from None
    return uncommented(text)


def uncommented(text: str) -> str:
    """Text without its comments, from `#` to the end of a line."""
    return "\n".join(re.sub(r"(^|\s)#.*", "", line) for line in text.splitlines())


def _entries(given: object, group: str, depth: int) -> Iterator[Named]:
    if depth > _DEPTH:
        raise SelfRepairError("Names are nested too deeply.", WRITE)
    if isinstance(given, str):
        yield from _of_text(given, group, depth)
    elif isinstance(given, Head | AtSpan) or (isinstance(given, Site) and not isinstance(given, type)):
        yield Named(group, given)
    elif isinstance(given, numbers.Number):
        raise refused_number(given)
    elif isinstance(given, Mapping):
        for name, members in given.items():
            yield from _entries(members, str(name), depth + 1)
    elif isinstance(given, Iterable) and not isinstance(given, bytes):
        members = list(given)
        pair = whole_numbers(members)
        if pair is not None and len(pair) == 2:
            yield Named(group, Head(*pair))
        else:
            for member in members:
                yield from _entries(member, group, depth + 1)
    else:
        raise SelfRepairError(f"{given!r} is not a component.", f"{WRITE} In Python also as (9, 6).")


def _of_text(text: str, group: str, depth: int) -> Iterator[Named]:
    if text.lstrip()[:1] in ("[", "{"):
        try:
            read = parsed_json(text, parse_float=Written)
        except ValueError:
            pass  # [9, 6] alone is JSON; `[9,6], 9.9` is not
        else:
            yield from _entries(read, group, depth + 1)
            return
    for atom in atoms(text):
        named = _GROUP.fullmatch(atom)
        if named is not None:
            group, atom = named[1], named[2]
        if atom:
            yield Named(group, atom)


def atoms(text: str) -> list[str]:
    """Names of a text, parted by commas, semicolons and white space outside of brackets.

    `MLP 5` is one name, and so are `L9H6@-2,-1` and what `+` or `->` joins.

    Raises:
        SelfRepairError: brackets do not match.
    """
    text = re.sub(r"\s+", " ", text)  # long runs of white space would take the patterns below quadratic time
    text = _RANGE_DASH.sub("-", _AROUND.sub(r"\1", text))
    names, end = [], 0
    while (match := _ATOM.search(text, end)) is not None:
        _require_separators(text[end : match.start()], text)
        end = match.end()
        names.append(match[0])
    _require_separators(text[end:], text)
    return names


def _require_separators(between: str, text: str) -> None:
    if between.strip(" \t\r\n,;\f\v"):
        raise SelfRepairError(f"Brackets do not match in '{text.strip()[:80]}'.", WRITE)


def whole_numbers(given: object) -> list[int] | None:
    """Whole numbers of one number or a pair; None for anything else, booleans and negative numbers included."""
    parts: list[Any] = list(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes) else [given]
    whole = []
    for part in parts:
        index = None if isinstance(part, bool) else getattr(part, "__index__", None)
        try:
            number = -1 if index is None else int(index())
        except TypeError:  # an array of several numbers
            number = -1
        if number < 0:
            return None
        whole.append(number)
    return whole or None


def refused_number(given: object) -> SelfRepairError:
    """The error for a number where a name was expected: `9.10` and `9.1` are two heads and one number."""
    text = getattr(given, "text", None) or str(given)
    if re.fullmatch(r"\d+\.\d+", text):
        short = text.rstrip("0") if not text.endswith(".0") else text
        return SelfRepairError(
            f"{text} is a number; did you mean '{short}0' or '{short}'? Quote it.",
            "Files and programs drop the last zero of numbers, and 9.1 and 9.10 are different heads.",
        )
    return SelfRepairError(f"{text} is a number, not a component. Quote it.", WRITE)


def components_named(entry: Named, shape: Shape | None) -> list[Place]:
    """The components of one entry: several where it is a set or a range of layers, or stands for shared keys."""
    places: list[Place] = []
    for part in parts_of(entry):
        layers = _LAYERS.fullmatch(part) if isinstance(part, str) else None
        if not isinstance(part, str):
            places.append(part)
        elif layers is not None:
            places += _attention_of(int(layers[1]), int(layers[2]), shape)
        else:
            places += _expanded(part, spelled(part, None if shape is None else shape.heads), shape)
    return places


def _attention_of(first: int, last: int, shape: Shape | None) -> list[Attention]:
    most = _MOST_LAYERS if shape is None else shape.layers
    if first > last or last >= most:
        raise no_such([f"L{first}-L{last}"], [0] * most if shape is None else shape.heads, [Attention(last)])
    return [Attention(layer) for layer in range(first, last + 1)]


def _expanded(name: str, component: Component, shape: Shape | None) -> list[Place]:
    site, via = component.site, component.via
    if isinstance(site, End):
        raise SelfRepairError(f"'{name}' is an end of the model, which cannot be ablated.", WRITE)
    if via is None:
        return [site]
    head = site.site if isinstance(site, At | AtSpan) else site
    assert isinstance(head, Head)
    group = (head,) if via == "q" else key_group(head, shape)
    shared = f" Those are shared by {', '.join(map(str, group))}." if len(group) > 1 else ""
    what = {"q": "queries", "k": "keys", "v": "values"}[via]
    warnings.warn(
        f"{name} stands for the {what} of {head}.{shared} What is taken is the whole output of "
        f"{'these heads' if shared else 'this head'}.",
        NameExpanded,
        stacklevel=2,
    )
    if isinstance(site, At):
        return [At(head, site.positions) for head in group]
    return [AtSpan(head, site.span) for head in group] if isinstance(site, AtSpan) else list(group)


def parts_of(entry: Named) -> list[str | Site | AtSpan]:
    """The parts of a name that `+` joins."""
    if not isinstance(entry.name, str):
        return [entry.name]
    if "->" in entry.name or "→" in entry.name:
        raise SelfRepairError(f"'{entry.name[:80]}' is an edge; a component was expected.", "Name one of its ends.")
    return [*entry.name.split("+")]
