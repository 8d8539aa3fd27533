"""Prompts as lines of JSON, the format that every other one is turned into."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from selfrepair.prompts.prompt import Prompt

_ALWAYS = ("id", "answers")


def json_lines(prompts: Iterable[Prompt]) -> str:
    """One line per prompt; what has its default is left out."""
    return "".join(json.dumps(_row(prompt), ensure_ascii=False) + "\n" for prompt in prompts)


def _row(prompt: Prompt) -> dict[str, Any]:
    defaults = asdict(Prompt(""))
    row = {name: value for name, value in asdict(prompt).items() if name in _ALWAYS or value != defaults[name]}
    for text, tokens in (("text", "tokens"), ("corrupt", "corrupt_tokens")):
        if text in row and not isinstance(row[text], str):
            row[tokens] = row.pop(text)
    return row
