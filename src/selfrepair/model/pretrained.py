"""Weights and tokenizer as transformers reads them: a folder, a hub id or a GGUF file."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from typing import Any

import torch

from selfrepair.errors import SelfRepairError
from selfrepair.model.faults import error_in_words, is_fault, is_out_of_memory
from selfrepair.model.gguf_header import require_gguf

DTYPES = {"float32": torch.float32, "float64": torch.float64}
_LARGE = "Keep the weights on disk: selfrepair.load(name, offload=True), or --offload on the command line."


def read_gguf(path: Path, dtype: str) -> tuple[Any, Any]:
    """A GGUF file's model, dequantised, and its tokenizer."""
    require_package("gguf", "gguf")
    require_gguf(path)
    network, tokenizer = from_pretrained(str(path.parent), dtype, gguf_file=path.name)
    return _without_quantizer(network), tokenizer


def _without_quantizer(network: Any) -> Any:
    """The same weights in a plain model of its class: one from a GGUF file refuses to be saved or moved."""
    config = copy.deepcopy(network.config)
    config.__dict__.pop("quantization_config", None)
    weights = network.state_dict()
    with torch.device("meta"):
        plain = type(network)(config)
    plain.load_state_dict(weights, assign=True, strict=False)
    plain.tie_weights()
    for name, value in network.named_buffers():  # rotary tables: not part of the weights
        plain.get_submodule(name.rpartition(".")[0]).register_buffer(name.rpartition(".")[2], value, persistent=False)
    return plain.eval()


def from_pretrained(source: str, dtype: str, **extra: Any) -> tuple[Any, Any]:
    """Model and tokenizer as transformers loads them, without code from elsewhere.

    Args:
        source: a folder or a hub id.
        dtype: `float32`, `float64` or `auto`.
        extra: more arguments for transformers: `revision`, `gguf_file`, `attn_implementation`.

    Raises:
        SelfRepairError: files that are missing, damaged or incomplete; no memory left.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for_tokenizer = {key: value for key, value in extra.items() if key in ("revision", "gguf_file")}
    weights = {} if "gguf_file" in extra else {"use_safetensors": True, "ignore_mismatched_sizes": True}
    shown = str(Path(source, extra.get("gguf_file", "")))
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **for_tokenizer)
        network, report = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=DTYPES.get(dtype, dtype),
            trust_remote_code=False,
            output_loading_info=True,
            **weights,
            **extra,
        )
    except BaseException as error:  # transformers, safetensors, tokenizers and gguf each have their own kinds
        if not is_fault(error):
            raise
        if is_out_of_memory(error):
            raise SelfRepairError(
                f"Memory ran out while '{shown}' was loaded ({error_in_words(error)}).", _LARGE
            ) from error
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise SelfRepairError(
            f"'{shown}' could not be loaded as a causal language model: {reason[0]}", _usual_fix(source, extra)
        ) from error
    _require_whole(shown, report)
    return network, tokenizer


def _usual_fix(source: str, extra: dict[str, Any]) -> str:
    if "gguf_file" in extra:
        return "The file is damaged, cut short, or of a kind that transformers cannot read: take it again."
    if Path(source).is_dir():
        return (
            "Files that are damaged or cut short have to be taken again; the folder needs config.json, tokenizer files "
            "and .safetensors weights, as save_pretrained writes them."
        )
    return "Check the name; without a network only models already in the Hugging Face cache can be named by their id."


def _require_whole(source: str, report: dict[str, Any]) -> None:
    """Refuses files without some weight: the library would draw it at random."""
    absent = sorted(report["missing_keys"])
    if absent:
        raise SelfRepairError(
            f"'{source}' has no weight '{absent[0]}'" + (f" ({len(absent)} are missing)." if absent[1:] else "."),
            "The files are damaged, or are those of another model than config.json says; take them again.",
        )
    if report["mismatched_keys"]:
        name, stored, wanted = sorted(report["mismatched_keys"])[0]
        raise SelfRepairError(
            f"The weight '{name}' of '{source}' has shape {tuple(stored)}; config.json wants {tuple(wanted)}.",
            "The files are damaged, or are those of another model than config.json says; take them again.",
        )


def require_package(module: str, extra: str) -> None:
    """Refuses to go on without an optional package.

    Args:
        module: name of the imported module.
        extra: the extra of selfrepair that installs it.

    Raises:
        SelfRepairError: it is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise SelfRepairError(
            f"Reading this model needs the package '{module}', which is not installed.",
            f"Install it: pip install 'selfrepair[{extra}]'.",
        )
