"""What can be given to `load` as an object; everything else is refused in words that say what to give instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from selfrepair.errors import SelfRepairError
from selfrepair.model.faults import finding
from selfrepair.model.plain_copy import plain

_BY_NAME = "Give a Hugging Face model object such as LlamaForCausalLM, or the name or folder of one."


def as_network(given: Any) -> Any:
    """The causal language model that an object is, ready to be looked at.

    Args:
        given: what was given to `load`, not a name.

    Raises:
        SelfRepairError: it is no such model; says what to give instead.
        RefusedModel: it is compiled, and its eager code cannot be reached.
    """
    if not isinstance(given, nn.Module):
        _refuse_other(given)
    if isinstance(given, torch.jit.ScriptModule):
        raise SelfRepairError("The model is a TorchScript module, whose parts cannot be watched.", _BY_NAME)
    with finding("the eager code of its modules"):
        network = plain(given)
    if not _is_language_model(network):
        _refuse_wrapper(network)
    if _says(network, "is_encoder_decoder"):
        raise SelfRepairError(
            f"{type(network).__name__} is an encoder-decoder: its logits depend on a second text.",
            "Only decoders are measured. Where transformers has its decoder alone (BartForCausalLM for BART), give it.",
        )
    return network


def inner_models(network: nn.Module) -> Iterator[str]:
    """Paths of the causal language models inside another module, as a user would write them: `model.module`."""
    for path, module in network.named_modules():
        if path and _is_language_model(module):
            with finding(f"the unembedding of {path}"):
                if module.get_output_embeddings() is not None:
                    yield f"model.{path}"


def adapters(network: nn.Module) -> list[str]:
    """Paths of modules that compute with an adapter beside their own weight (LoRA before it is merged)."""
    return [path for path, module in network.named_modules() if "base_layer" in dict(module.named_children())]


def _is_language_model(module: Any) -> bool:
    """By what is called on it; PEFT's models pass everything on to the model inside."""
    called = ("get_output_embeddings", "get_input_embeddings")
    return (
        all(callable(getattr(module, name, None)) for name in called)
        and callable(getattr(getattr(module, "config", None), "get_text_config", None))
        and isinstance(getattr(module, "base_model", None), nn.Module)
    )


def _refuse_other(given: Any) -> None:
    kind = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
    if isinstance(getattr(given, "model", None), nn.Module):
        fix = "It holds one: give that and its tokenizer, load(it.model, it.tokenizer)."
    elif hasattr(given, "convert_ids_to_tokens"):
        fix = "A tokenizer is the second argument: load(model, tokenizer)."
    elif isinstance(given, type):
        fix = f"Give one that is loaded: {given.__name__}.from_pretrained(name)."
    else:
        fix = _BY_NAME
    raise SelfRepairError(f"A model was expected, got {kind}.", fix)


def _refuse_wrapper(network: nn.Module) -> None:
    kind = type(network).__name__
    inner = next(inner_models(network), None)
    if inner is not None:
        raise SelfRepairError(f"{kind} is not a Hugging Face model, but holds one.", f"Give what it wraps: {inner}.")
    raise SelfRepairError(f"{kind} is not a Hugging Face causal language model.", _BY_NAME)


def _says(network: Any, name: str) -> bool:
    try:
        return bool(getattr(network.config, name, False))
    except Exception:  # a configuration that refuses to tell
        return False
