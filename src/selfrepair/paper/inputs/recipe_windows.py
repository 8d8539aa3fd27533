"""Windows of a text, cut as a recipe requires."""

from __future__ import annotations

from typing import Any

from selfrepair.paper.inputs.recipe import original_windows
from selfrepair.text import Windows, windows
from selfrepair.text.document_sources import read_documents


def windows_for(
    tokenizer: Any, recipe: str, *, text: str, tokens: int, length: int, field: str, bos: Any, seed: int
) -> Windows:
    """Windows of a text source: within documents, or as the paper's authors pack them.

    Raises:
        SelfRepairError: as `windows` and `recipe.original_windows`.
    """
    if recipe == "original":
        documents = read_documents(text, field=field)  # whole, as the authors did
        return original_windows(tokenizer, documents, length=length, tokens=tokens, source=text)
    return windows(tokenizer, text, tokens=tokens, length=length, bos=bos, field=field, seed=seed)
