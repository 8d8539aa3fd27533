"""YAML of unknown origin: plain values alone, each once, and numbers with the digits that were written."""

from __future__ import annotations

from functools import cache
from typing import Any

from selfrepair.ablation.name_lists import Written
from selfrepair.errors import SelfRepairError

_MOST = 2**20  # characters; the parser takes some seconds for so many


def once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping, from its pairs.

    Raises:
        ValueError: a key comes twice, of which one would be lost.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"'{twice[:40]}' is in it twice")
    return found


def parsed_yaml(text: str) -> Any:
    """What YAML says; numbers with a point as `Written`.

    Raises:
        ValueError: it is no YAML, too large, nested beyond reason, or refers to parts of itself, which takes memory
            without end.
        SelfRepairError: a number of base 60, as which `9:6` is read.
    """
    import yaml

    if len(text) > _MOST:
        raise ValueError("it is too large; give graphs as JSON")
    try:
        if any(isinstance(event, yaml.events.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("it refers to parts of itself (*)")
        return yaml.load(text, _loader())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except yaml.YAMLError as problem:
        raise ValueError(" ".join(str(problem).split())[:200]) from None


@cache
def _loader() -> Any:
    import yaml

    loader: Any = type("Loader", (yaml.SafeLoader,), {})
    loader.add_constructor("tag:yaml.org,2002:int", _number)
    loader.add_constructor("tag:yaml.org,2002:float", _number)
    loader.add_constructor("tag:yaml.org,2002:map", _mapping)
    return loader


def _mapping(loader: Any, node: Any) -> dict[str, Any]:
    pairs = [(loader.construct_object(key, True), loader.construct_object(value, True)) for key, value in node.value]
    return once_each([(str(getattr(key, "text", key)), value) for key, value in pairs])


def _number(loader: Any, node: Any) -> object:
    text = str(loader.construct_scalar(node))
    if ":" in text:
        raise SelfRepairError(
            f"{text} is a number to YAML, of base 60; did you mean '{text}'? Quote it.", "Or write the head as L9H6."
        )
    try:
        return int(text) if text.isdecimal() else Written(text)
    except ValueError:
        return text  # .inf, 0x1F: no name either
