"""Mappings as other tools hand them on in Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfrepair.prompts.formats import coax, own, transformer_lens
from selfrepair.prompts.prompt import Prompt, Unusable


def prompt_of(row: Mapping[str, Any]) -> Prompt:
    """A prompt from a mapping, told by its keys.

    Raises:
        Unusable: its keys are of no known format, or its values are not what they should be.
    """
    keys = set(row)
    if keys >= {"prompt", "IO", "S"}:
        return transformer_lens.prompt_of(row)
    if keys >= {"prompt", "io", "s"}:
        return coax.prompt_of(row)
    if keys & {"text", "tokens"}:
        return own.prompt_of(row)
    raise Unusable(f"Its keys are {', '.join(map(repr, sorted(map(str, keys))))}, of no known format.")
