"""Tasks of ACDC as arrays: `validation_data` and `validation_patch_data`, token ids without answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from selfrepair.errors import SelfRepairError
from selfrepair.prompts.formats.content import Content
from selfrepair.prompts.formats.read import Wishes
from selfrepair.prompts.pairs import paired
from selfrepair.prompts.prompt import Dropped, Prompt

CLEAN, CORRUPT = "validation_data", "validation_patch_data"


def detect(content: Content) -> bool:
    """See `Format`."""
    return content.suffix == ".npz" and isinstance(content.document, dict) and CLEAN in content.document


def read(content: Content, wishes: Wishes) -> Iterator[Prompt | Dropped]:
    """See `Format`. Its metrics are code, so that only the change of the distribution (KL) is left to be measured."""
    wishes.refuse_unused()
    document: dict[str, Any] = content.document if isinstance(content.document, dict) else {}
    if CLEAN not in document or wishes.groups is not None:
        raise SelfRepairError(
            f"{content.name} has arrays {', '.join(document) or 'of no name'}.",
            f"Token ids are expected as {CLEAN} and {CORRUPT}; there are no groups.",
        )
    wishes.facts["answers"] = "none: ACDC has its metric in code; KL to the clean run can be measured"
    prompts = paired(document[CLEAN], document.get(CORRUPT))
    return (replace(prompt, id=str(number)) for number, prompt in enumerate(prompts, 1))
