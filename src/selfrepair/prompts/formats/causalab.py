"""Causalab's data sets: `input` and `counterfactual_inputs`, texts under `raw_input` and `raw_output`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from selfrepair.prompts.formats.content import Content, Row
from selfrepair.prompts.formats.read import Wishes, each_row, text_of
from selfrepair.prompts.prompt import Dropped, Prompt, Unusable


def detect(content: Content) -> bool:
    """See `Format`."""
    return {"input", "counterfactual_inputs"} <= set(content.columns)


def read(content: Content, wishes: Wishes) -> Iterator[Prompt | Dropped]:
    """See `Format`. Of several counterfactuals the first is taken."""
    wishes.refuse_unused()
    several = sum(isinstance(others, list) and len(others) > 1 for others in _counterfactuals(content))
    wishes.facts["counterfactual"] = f"the first; {several} of {len(content.rows)} prompts have more"
    return each_row(content, wishes, _prompt)


def _counterfactuals(content: Content) -> list[object]:
    return [row.get("counterfactual_inputs") for row in content.rows]


def _prompt(row: Row) -> Prompt:
    others = row.get("counterfactual_inputs")
    if not isinstance(others, list) or not others:
        raise Unusable("It has no counterfactual_inputs.")
    clean, twin = _texts(row.get("input"), "input"), _texts(others[0], "counterfactual_inputs")
    return Prompt(clean[0], clean[1], twin[1] if clean[1] else (), twin[0])


def _texts(value: object, name: str) -> tuple[str, tuple[str, ...]]:
    """A text, and what follows it where that is known."""
    if isinstance(value, str) and value:
        return value, ()
    if not isinstance(value, Mapping):
        raise Unusable(f"Its {name} is no object with a raw_input.")
    output = value.get("raw_output")
    return text_of(value, "raw_input"), (output,) if isinstance(output, str) and output else ()
