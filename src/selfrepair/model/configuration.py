"""What a model's configuration says, also of configurations that refuse to tell."""

from __future__ import annotations

from typing import Any


def setting(model: Any, name: str) -> Any:
    """What the text part of a model's configuration says under `name`; None where it says nothing.

    Some configurations raise other errors than AttributeError, as where layers differ in what is asked for.
    """
    try:
        return getattr(model.config.get_text_config(), name, None)
    except Exception:
        return None
