"""A small random model of any causal language model that transformers has, and of any class that reads images too."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import zlib
from collections.abc import Iterator
from typing import Any

import torch
import transformers as hf
from torch import nn
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from census.families import VARIANTS, Fields, needs
from census.multimodal import MULTIMODAL_NEEDS
from census.sizes import OPTIONAL, PLACEHOLDERS, SIZES, SWITCHES, TOKENS

FAMILIES: tuple[str, ...] = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
ENTRIES: tuple[str, ...] = (*FAMILIES, *VARIANTS)
WITH = "image+text "
"""Begins the entries of classes that read images too."""


def _others() -> Iterator[str]:
    """Families whose class for images and text is another than their causal language model, each class once."""
    seen = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    for family, name in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.items():
        if name not in seen:
            yield f"{WITH}{family}"
        seen.add(name)


MULTIMODAL: tuple[str, ...] = tuple(_others())
_MOST = 40e6  # parameters: what is larger was not made small


class NotBuilt(Exception):
    """A model that this census cannot build, with the reason."""


def build(entry: str) -> Any:
    """The model of an entry of `ENTRIES` or `MULTIMODAL`, random, in eval mode, float64.

    Raises:
        NotBuilt: its class or configuration cannot be made small, or it does not run on token ids alone.
    """
    family = entry.removeprefix(WITH).split("@")[0]
    try:
        if entry.startswith(WITH):
            config = _config(family, MULTIMODAL_NEEDS.get(family, {}))
            model = _model(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[family], family, config)
        else:
            model = _model(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[family], family, _config(family, VARIANTS.get(entry, {})))
    except Exception as error:  # whatever constructors raise
        raise NotBuilt(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    return randomised(model, entry).double()


def _model(name: Any, family: str, config: Any) -> Any:
    model_class = getattr(hf, name if isinstance(name, str) else name[0])
    expected = getattr(model_class, "config_class", None)
    if isinstance(expected, type) and not isinstance(config, expected):
        config = config.get_text_config()
    if hasattr(config, "is_decoder") and not getattr(config, "is_encoder_decoder", False):
        config.is_decoder = True
    with torch.device("meta"):
        size = sum(value.numel() for value in model_class._from_config(config).parameters())
    if size > _MOST:
        raise NotBuilt(f"the small configuration still has {size / 1e6:.0f}M parameters")
    model = model_class._from_config(config, dtype=torch.float32)
    if family == "xmod":
        model.set_default_language("en_XX")
    with contextlib.suppress(Exception):
        model.set_experts_implementation("eager")
    return model


def _config(family: str, variant: Fields) -> Any:
    config_class = CONFIG_MAPPING[family]
    config = config_class(**_merged(_fields(config_class, family, 0), variant))
    for part in (config, *(_quiet(config, name) for name in getattr(config_class, "sub_configs", None) or {})):
        rope = None if part is None else _quiet(part, "rope_parameters")
        if isinstance(rope, dict) and rope.get("mrope_section"):
            width = _quiet(part, "head_dim") or part.hidden_size // part.num_attention_heads
            half = int(width * rope.get("partial_rotary_factor", 1.0)) // 2
            if len(rope["mrope_section"]) == 3 and sum(rope["mrope_section"]) not in (half, 2 * half):
                rope["mrope_section"] = [half - 2 * (half // 3), half // 3, half // 3]
    return config


def _fields(config_class: Any, family: str, depth: int) -> Fields:
    """Keyword arguments that make a small configuration."""
    default = None
    with contextlib.suppress(Exception):
        default = config_class()
    inner = getattr(config_class, "sub_configs", None) or {}
    made: Fields = {}
    for name, kind in _parameters(config_class).items():
        value = _quiet(default, name, 1)
        if name in inner or isinstance(value, hf.PretrainedConfig):
            part = type(value) if isinstance(value, hf.PretrainedConfig) else inner.get(name)
            if part not in (None, hf.AutoConfig) and depth < 3 and (value is not None or name == "text_config"):
                inside = getattr(part, "model_type", "")
                made[name] = {**_fields(part, inside, depth + 1), "model_type": inside}
        elif name in SIZES and "int" in kind:
            stays = (value is None and name in OPTIONAL) or (value == 0 and name in SWITCHES)
            if not stays and not isinstance(value, list | tuple):
                made[name] = SIZES[name]
        elif name in TOKENS and value is not None:
            made[name] = TOKENS[name]
        elif name in PLACEHOLDERS and isinstance(value, int):
            made[name] = PLACEHOLDERS[name]
    return _merged(made, needs(family))


def _parameters(config_class: Any) -> dict[str, str]:
    """What a configuration is made of, by name, with its type; before transformers 5.4 they are no dataclasses, and
    types are not always given."""
    if dataclasses.is_dataclass(config_class):
        return {field.name: str(field.type) for field in dataclasses.fields(config_class)}
    given = inspect.signature(config_class.__init__).parameters.values()
    untyped = inspect.Parameter.empty
    return {one.name: "int" if one.annotation is untyped else str(one.annotation) for one in given}


def _merged(base: Fields, extra: Fields) -> Fields:
    for key, value in extra.items():
        nested = isinstance(value, dict) and isinstance(base.get(key), dict)
        base[key] = _merged(dict(base[key]), value) if nested else value
    return base


def _quiet(config: Any, name: str, default: Any = None) -> Any:
    """An attribute, also of configurations that raise where layers differ in it."""
    try:
        return getattr(config, name, default)
    except Exception:
        return default


def randomised(model: Any, entry: str) -> Any:
    """Draws every parameter and small buffer from a seed of the entry: no neutral value may hide a bug."""
    draws = torch.Generator().manual_seed(zlib.crc32(entry.encode()))
    owners = {id(p): module for module in model.modules() for p in module.parameters(recurse=False)}
    head = model.get_output_embeddings()
    unembedding = None if head is None else getattr(head, "weight", None)
    with torch.no_grad():
        for path, value in model.named_parameters():
            if value.is_floating_point():
                value.copy_(_drawn(path, value, owners[id(value)], value is unembedding, draws).to(value.dtype))
        persistent = set(model.state_dict())
        for path, value in model.named_buffers():
            if path in persistent and value.is_floating_point() and 0 < value.numel() <= 4096 and value.ndim <= 1:
                if (value == 1).all():  # scalars of a layer
                    value.copy_(1 + 0.3 * (2 * torch.rand(value.shape, generator=draws) - 1))
                elif (value == 0).all():  # corrections of routers
                    value.copy_(0.05 * torch.randn(value.shape, generator=draws))
    return model.eval()


def _drawn(path: str, value: Any, owner: nn.Module, unembeds: bool, draws: torch.Generator) -> Any:
    normal = torch.randn(value.shape, generator=draws)
    uniform = 2 * torch.rand(value.shape, generator=draws) - 1
    fan = value.shape[0] if type(owner).__name__ == "Conv1D" else value.shape[-1] if value.ndim else 1
    if isinstance(owner, nn.Embedding):
        return 0.3 * normal / (fan**0.5 if "Scaled" in type(owner).__name__ else 1)
    if unembeds:
        return 2.0 * normal / fan**0.5
    if value.ndim > 1:
        router = "router" in path or path.endswith("gate.weight")  # a choice with a wide margin: rounding keeps it
        return (3.0 if router else 1.0) * normal / fan**0.5
    if (value == 1).all():
        return 1 + 0.5 * uniform
    if (value == 0).all():
        return 0.5 * uniform if "norm" in type(owner).__name__.lower() else 0.25 * normal
    usual = torch.isfinite(value).all() and value.abs().max() < 100
    return value.float() + 0.1 * normal if usual else 0.25 * normal
