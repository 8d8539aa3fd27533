"""Weights and tokenizer as transformers reads them: a folder, a hub id or a GGUF file."""

from __future__ import annotations

import copy
import importlib.util
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from selfrepair.errors import SelfRepairError
from selfrepair.model.faults import error_in_words, is_fault, is_out_of_memory
from selfrepair.model.gguf_header import FLOAT_KINDS, require_gguf
from selfrepair.model.model_class import model_class
from selfrepair.model.stored.quantised import in_words, quantisation
from selfrepair.model.stored.stock import OnFile, Stock, kinds_in_words
from selfrepair.model.stored.weights_on_file import weights_on_file

DTYPES = {"float32": torch.float32, "float64": torch.float64}
_OF_FILES = {"use_safetensors": True, "ignore_mismatched_sizes": True}  # arguments for transformers
_LARGE = "Keep the weights on disk: selfrepair.load(name, offload=True), or --offload on the command line."


def read_gguf(path: Path, dtype: str) -> tuple[Any, Any, OnFile]:
    """A GGUF file's model, dequantised (to float32 where `dtype` is `auto`), its tokenizer, and what is on file."""
    require_package("gguf", "gguf")
    kinds = require_gguf(path)
    dtype = "float32" if dtype == "auto" else dtype
    network, tokenizer, _ = from_pretrained(str(path.parent), dtype, gguf_file=path.name)
    return (
        _without_quantizer(network),
        tokenizer,
        OnFile(f"GGUF {kinds_in_words(kinds)}", not set(kinds) <= FLOAT_KINDS),
    )


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


def from_pretrained(source: str, dtype: str, stock: Stock | None = None, **extra: Any) -> tuple[Any, Any, OnFile]:
    """Model and tokenizer as transformers loads them, without code from elsewhere; and what its weights are on file.

    Args:
        source: a folder or a hub id.
        dtype: `float32`, `float64`, or `auto` for that on file (float32 where weights are quantised).
        stock: the weights that its files hold. Where they are of another precision they are read one by one.
        extra: more arguments for transformers: `revision`, `gguf_file`, `attn_implementation`.

    Raises:
        SelfRepairError: files that are missing, damaged or incomplete; weights that are quantised in a way that cannot
            be undone here; no memory left.
    """
    from transformers import AutoTokenizer

    for_files = {key: value for key, value in extra.items() if key in ("revision", "gguf_file")}
    shown = str(Path(source, extra.get("gguf_file", "")))
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **for_files)
        (network, report), on_file = _model(source, dtype, stock, for_files, extra)
    except SelfRepairError:
        raise
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
    return network, tokenizer, on_file


def _model(
    source: str, dtype: str, stock: Stock | None, for_files: dict[str, Any], extra: dict[str, Any]
) -> tuple[tuple[Any, dict[str, Any]], OnFile]:
    """The model and transformers' report on its weights; and what these are on file."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False, **for_files)
    if stock is not None:
        return _of_stock(source, dtype, stock, config, extra)
    made, config = model_class(config)
    options = {"config": config, "dtype": DTYPES.get(dtype, dtype), "output_loading_info": True, **extra}
    if "gguf_file" not in extra:
        options |= _OF_FILES
    elif hasattr(transformers, "GgufConfig"):  # its kernels would keep some blocks packed
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    return made.from_pretrained(source, **options), OnFile("", False)


def _of_stock(
    source: str, dtype: str, stock: Stock, config: Any, extra: dict[str, Any]
) -> tuple[tuple[Any, dict[str, Any]], OnFile]:
    """As `_model`: files of the wanted precision are mapped, weights of others are read one by one."""
    import transformers

    method, settings = quantisation(config, source)
    weights, kinds = weights_on_file(stock, method, settings), stock.kinds
    on_file = OnFile(kinds_in_words(kinds), False) if method is None else OnFile(in_words(method, settings), True)
    if dtype == "auto":  # its own, not the one that config.json names: offloaded weights must not be rounded
        dtype = kinds[0] if method is None and len(kinds) == 1 else "float64" if "float64" in kinds else "float32"
    made, config = model_class(config)
    options = {"config": config, "dtype": getattr(torch, dtype), "output_loading_info": True, **extra}
    if method is None and kinds == [dtype]:
        return made.from_pretrained(source, **options, **_OF_FILES), on_file
    for part in (config, config.get_text_config()):
        part.__dict__.pop("quantization_config", None)
    revision = {"revision": options.pop("revision")} if "revision" in options else {}
    network, report = made.from_pretrained(None, state_dict=weights, ignore_mismatched_sizes=True, **options)
    network.config.name_or_path = network.name_or_path = source
    with suppress(OSError):  # there is none
        network.generation_config = transformers.GenerationConfig.from_pretrained(source, **revision)
    return (network, report), on_file


def _usual_fix(source: str, extra: dict[str, Any]) -> str:
    if "gguf_file" in extra:
        return (
            "The file is damaged, cut short, or of a kind that transformers cannot read: take it again, or make one of "
            "another kind from it (llama-quantize --allow-requantize IN.gguf OUT.gguf Q8_0)."
        )
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
