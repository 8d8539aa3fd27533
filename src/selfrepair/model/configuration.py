"""Reads entries of a model's configuration; entries that raise on access count as absent."""

from __future__ import annotations

from typing import Any


def setting(model: Any, name: str) -> Any:
    """The entry `name` of the text part of a model's configuration; None if it has none.

    Some configurations raise other errors than AttributeError, as where layers differ in the entry.
    """
    try:
        return getattr(model.config.get_text_config(), name, None)
    except Exception:
        return None
