"""Items of TransformerLens's `IOIDataset`: `{"prompt": ids, "IO": ids, "S": ids}`, where the prompt has its answer."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from selfrepair.prompts.formats.own import token_ids
from selfrepair.prompts.prompt import Prompt, Unusable


def prompt_of(item: Mapping[str, Any]) -> Prompt:
    """A prompt that ends where its answer begins.

    What both names begin with (a beginning-of-sequence token, of tokenizers that put one in front of each text) is no
    part of the answer.

    Raises:
        Unusable: the prompt does not end in its answer, or the names are the same.
    """
    prompt, right, wrong = (_ids(item[name], name) for name in ("prompt", "IO", "S"))
    same = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(right, wrong, strict=False))))
    right, wrong = right[same:], wrong[same:]
    if not right or not wrong:
        raise Unusable("Its names IO and S are the same, or one is the beginning of the other.")
    if prompt[len(prompt) - len(right) :] != right:
        raise Unusable(
            f"Its prompt ends in {list(prompt[-len(right) :])} and not in its answer {list(right)}, as those of "
            "TransformerLens do."
        )
    return Prompt(prompt[: len(prompt) - len(right)], (right,), (wrong,))


def _ids(value: Any, name: str) -> tuple[int, ...]:
    return token_ids(value.tolist() if hasattr(value, "tolist") else value, name)
