"""Refuses heads that a model does not have before its weights are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selfrepair.ablation.names import NamedHeads, existing_heads


def require_existing_heads(named: NamedHeads | None, model: str, revision: str | None) -> None:
    """Refuses heads that are not in a model's configuration, before its weights are loaded.

    Does nothing if there is no configuration to read: loading reports what is wrong.

    Args:
        named: from `named_heads`; None for all.
        model: name or path, as for `load`.
        revision: branch, tag or commit of a hub model.

    Raises:
        SelfRepairError: a head that the model does not have.
    """
    config = None if named is None else _configuration(model, revision)
    layers, heads = (getattr(config, name, None) for name in ("num_hidden_layers", "num_attention_heads"))
    if named is not None and isinstance(layers, int) and isinstance(heads, int) and 0 < layers <= _MOST_LAYERS:
        existing_heads(named, [heads] * layers)


_MOST_LAYERS = 100_000  # a number in a file is not trusted: loading refuses more


def _configuration(model: str, revision: str | None) -> Any:
    from transformers import AutoConfig

    if model == "default" or Path(model).suffix == ".gguf":
        return None
    try:
        return AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False).get_text_config()
    except Exception:  # each library has its own kinds, and `load` explains them
        return None
