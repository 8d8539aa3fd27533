"""Checks an object given to `load`; anything but a causal language model is refused, with what to give instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from selfrepair.errors import SelfRepairError
from selfrepair.model.faults import finding
from selfrepair.model.plain_copy import plain_copy

_BY_NAME = "Give a Hugging Face model object such as LlamaForCausalLM, or the name or folder of one."


def as_network(given: Any) -> Any:
    """The causal language model that an object is, ready to be dissected.

    Args:
        given: the object given to `load`.

    Raises:
        SelfRepairError: it is no such model; the fix names what to give instead.
        RefusedModel: it is compiled, and its eager code cannot be reached.
    """
    with finding("what kind of object it is"):
        if not isinstance(given, nn.Module):
            _refuse_other(given)
        _refuse_scripted(given)
    with finding("the eager code of its modules"):
        network = plain_copy(given)
    with finding("what kind of model it is"):
        if not _is_language_model(network):
            _refuse_wrapper(network)
        require_decoder(network)
    return network


def require_decoder(network: Any) -> None:
    """Refuses models whose logits depend on more than the text before them.

    Raises:
        SelfRepairError: it is an encoder-decoder.
    """
    if _says(network, "is_encoder_decoder"):
        raise SelfRepairError(
            f"{type(network).__name__} is an encoder-decoder: its logits depend on a second text.",
            "Only decoders are measured. Where transformers has its decoder alone (BartForCausalLM for BART), give it.",
        )


def inner_models(network: nn.Module) -> Iterator[str]:
    """Paths of the causal language models inside another module, as a user would write them: `model.module`."""
    for path, module in network.named_modules():
        if path and _is_language_model(module):
            with finding(f"the unembedding of {path}"):
                if module.get_output_embeddings() is not None:
                    yield f"model.{path}"


def advice(network: nn.Module, fix: str) -> str:
    """The fix for a refused model, where the cause can be seen in the object itself.

    Args:
        network: the model.
        fix: the refusal's own.
    """
    from transformers import PreTrainedModel

    unmerged = [path for path, module in network.named_modules() if "base_layer" in dict(module.named_children())]
    if unmerged:  # LoRA and its kin compute beside the weight of a base layer until they are merged
        whose = "" if hasattr(network, "merge_and_unload") else "model = PeftModel.from_pretrained(base, adapter); "
        return (
            f"The model has adapters that are not merged ('{unmerged[0]}'): merge them into its weights first, "
            f"{whose}model = model.merge_and_unload()."
        )
    seen = [fix] if fix else []
    if not isinstance(network, PreTrainedModel) and not hasattr(network, "peft_config"):
        inner = next(inner_models(network), None)
        seen += [] if inner is None else [f"{type(network).__name__} wraps a Hugging Face model: give {inner}."]
    hooked = [path or "model" for path, module in network.named_modules() if _is_hooked(module)]
    if hooked:
        seen.append(f"Hooks are registered ({len(hooked)}, one on '{hooked[0]}'): load the model without them.")
    return " ".join(seen) or "Load the plain model, by its name or folder."


def _is_hooked(module: nn.Module) -> bool:
    """Whether someone has registered hooks on it; those by which transformers collects outputs do not count."""
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    return any(not str(getattr(hook, "__module__", "")).startswith("transformers.") for hook in hooks)


def _is_language_model(module: Any) -> bool:
    """Judged by its methods; PEFT's models pass everything on to the model inside."""
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


def _refuse_scripted(given: nn.Module) -> None:
    for path, module in given.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            what = f"'{path}' of the model" if path else "The model"
            raise SelfRepairError(
                f"{what} is a TorchScript module, whose parts cannot be watched.",
                "Give the model before torch.jit.script or torch.jit.trace, or its name or folder.",
            )


def _refuse_wrapper(network: nn.Module) -> None:
    kind = type(network).__name__
    inner = next(inner_models(network), None)
    if inner is not None:
        raise SelfRepairError(f"{kind} is not a Hugging Face model, but holds one.", f"Give what it wraps: {inner}.")
    raise SelfRepairError(f"{kind} is not a Hugging Face causal language model.", _BY_NAME)


def _says(network: Any, name: str) -> bool:
    try:
        return bool(getattr(network.config, name, False))
    except Exception:  # a configuration that raises on access
        return False
