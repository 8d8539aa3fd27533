"""Which class of transformers a checkpoint is loaded as: the whole one that its configuration names.

Models that read images or sound beside text are loaded whole, not as the text class that transformers may have beside
theirs: what the whole class computes of token ids is what is measured, and no weight has to be renamed.
"""

from __future__ import annotations

from typing import Any


def model_class(config: Any) -> tuple[Any, Any]:
    """The class of a checkpoint's model, and the configuration that it takes.

    Args:
        config: the checkpoint's configuration.

    Returns:
        A class that reads more than text and answers in text where the family has one, unless the configuration names
        the family's class for text alone; else its causal language model.

    Raises:
        ValueError: transformers has no such class for it.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MULTIMODAL_LM_MAPPING

    wide, narrow = (_known(known, config) for known in (MODEL_FOR_MULTIMODAL_LM_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING))
    named = getattr(config, "architectures", None) or []
    chosen = wide if wide and not set(named) & set(narrow) else narrow
    if not chosen:
        raise ValueError(f"transformers has no language model of the type '{config.model_type}'")
    made = next((chosen[name] for name in named if name in chosen), next(iter(chosen.values())))
    text = getattr(config, "sub_configs", {}).get("text_config")
    return made, config.get_text_config() if text is not None and made.config_class is text else config


def _known(mapping: Any, config: Any) -> dict[str, Any]:
    """By name, the classes that an auto class knows for a configuration."""
    found = mapping.get(type(config), ())
    return {made.__name__: made for made in (found if isinstance(found, tuple | list) else (found,))}
