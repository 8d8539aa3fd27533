"""Whether weights on file are quantised, and whether they can be dequantised here; refusals say what to do instead."""

from __future__ import annotations

from typing import Any

from selfrepair.errors import SelfRepairError
from selfrepair.model.stored.formats import FORMATS, Settings

_OTHERWISE = "Give the checkpoint that it was quantised from (its page names it)"
_BY_TRANSFORMERS = (
    "; or dequantise it where its package runs: AutoModelForCausalLM.from_pretrained(name).dequantize().save_pretrained"
    "(folder), and give the folder"
)
_DEQUANTISED_THERE = ("higgs",)  # methods for which transformers has `dequantize`, beside those that are read here
_NATIVE = {"bitnet": "its ternary weights go with activations of 8 bits, which is another model than its float weights"}


def quantisation(config: Any, name: str) -> tuple[str | None, Settings]:
    """How a checkpoint's weights are quantised.

    Args:
        config: its configuration.
        name: of the model, for messages.

    Returns:
        The method, one of `FORMATS`, with its settings; None where weights are not quantised.

    Raises:
        SelfRepairError: weights are quantised in a way that is not dequantised here; says what to give instead.
    """
    given = getattr(config, "quantization_config", None)
    if given is None:
        given = getattr(config.get_text_config(), "quantization_config", None)
    if given is None:
        return None, {}
    settings = given if isinstance(given, dict) else given.to_dict()
    method = str(settings.get("quant_method", "")) or ("bitsandbytes" if _is_bitsandbytes(settings) else "unknown")
    why = _unreadable(method, settings)
    if why is not None:
        raise SelfRepairError(
            f"The weights of '{name}' are quantised ({method[:40]}): {why}.",
            _OTHERWISE + (_BY_TRANSFORMERS if method in _DEQUANTISED_THERE else "") + ".",
        )
    return method, settings


def _is_bitsandbytes(settings: Settings) -> bool:
    return bool(settings.get("load_in_4bit") or settings.get("load_in_8bit"))


def _unreadable(method: str, settings: Settings) -> str | None:
    """Why weights cannot be dequantised; None where they can."""
    if method not in FORMATS:
        return _NATIVE.get(method, f"only {', '.join(sorted(FORMATS))} and GGUF files are dequantised here")
    bits = settings.get("bits", 4)
    if method == "gptq":
        layout = settings.get("checkpoint_format") or "gptq"
        if bits not in (2, 4, 8) or layout not in ("gptq", "gptq_v2") or settings.get("is_marlin_format"):
            return f"of GPTQ, 2, 4 and 8 bits in the layouts gptq and gptq_v2 are read, not {bits} bits in {layout}"
    if method == "awq":
        layout = str(settings.get("version", "gemm")).lower()
        if bits != 4 or layout != "gemm":
            return f"of AWQ, 4 bits in the layout gemm are read, not {bits} bits in {layout}"
    if method == "compressed-tensors":
        sparse = (settings.get("sparsity_config") or {}).get("format", "dense")
        if sparse != "dense":
            return f"its weights are stored without their zeros ({sparse})"
        if settings.get("transform_config"):
            return "its weights are rotated, and rotated back while the model runs"
    return None


def in_words(method: str, settings: Settings) -> str:
    """What is on file: `gptq, 4 bits`."""
    if method == "bitsandbytes":
        return (
            f"bitsandbytes, {'int8' if settings.get('load_in_8bit') else settings.get('bnb_4bit_quant_type', '4 bits')}"
        )
    return f"{method}, {settings['bits']} bits" if "bits" in settings else method
