"""Prompts of Conditional Co-Ablation: `{"prompt": …, "io": " Mary", "s": " John"}`, in a JSON list or lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from selfrepair.prompts.formats.content import Content
from selfrepair.prompts.formats.read import Wishes, each_row, text_of
from selfrepair.prompts.prompt import Dropped, Prompt


def detect(content: Content) -> bool:
    """See `Format`."""
    return {"prompt", "io", "s"} <= set(content.columns)


def read(content: Content, wishes: Wishes) -> Iterator[Prompt | Dropped]:
    """See `Format`. Its own code puts nothing in front of a text (`bos="never"`), which is recorded."""
    wishes.refuse_unused()
    wishes.facts["written_for"] = "nothing in front of the text"
    return each_row(content, wishes, prompt_of)


def prompt_of(row: Mapping[str, Any]) -> Prompt:
    """A prompt from one row.

    Raises:
        Unusable: a text is missing.
    """
    return Prompt(text_of(row, "prompt"), (text_of(row, "io"),), (text_of(row, "s"),))
