"""Checks a model's folder before anything in it is loaded or built: only safetensors, of the sizes they declare."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selfrepair.errors import SelfRepairError
from selfrepair.model.buildable import require_buildable
from selfrepair.model.stored.stock import Stock, StoredWeight
from selfrepair.reading import read_json, require_regular

CONFIG, WEIGHTS, INDEX, ADAPTER = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "adapter_config.json",
)
_NAME = re.compile(r"[^./\\:][^/\\:]*\.safetensors")  # a plain file name
_CONFIG_BYTES, _JSON_BYTES = 4 * 2**20, 256 * 2**20
_LARGEST = 2**32  # no size, count or token id in a configuration is larger
_COUNTED = re.compile("layer|label|block|stage|depth|expert|group")  # of what configurations make lists
_MOST_COUNTED = 100_000
_AGAIN = (
    "Files that are damaged or cut short have to be taken again; the folder needs config.json, tokenizer files "
    "and .safetensors weights, as save_pretrained writes them."
)


def require_safe(folder: Path) -> Stock:
    """Refuses a folder whose weights are anything but safetensors inside it, or whose files contradict their headers.

    Args:
        folder: folder with `config.json`, tokenizer files and weights, as `save_pretrained` writes them.

    Returns:
        The weights according to their headers.

    Raises:
        SelfRepairError: names the file.
    """
    for path in sorted(folder.glob("*.json")):
        _require_json(path)
    _require_config(_read(folder / CONFIG, _CONFIG_BYTES), folder)
    if (folder / ADAPTER).exists():
        raise SelfRepairError(
            f"The folder {folder} holds an adapter ({ADAPTER}), not only a whole model.",
            "Merge it into its model with peft's merge_and_unload(), and save that with save_pretrained.",
        )
    stock = Stock({}, 0)
    for path in weight_files(folder):
        stock = stock + _stock(path)
    return stock


def require_loadable(folder: Path) -> Stock:
    """Refuses a folder that is not safe (`require_safe`), or whose configuration asks for more than its files hold.

    Returns:
        The weights according to their headers.

    Raises:
        SelfRepairError: names what does not fit.
    """
    from transformers import AutoConfig

    stock = require_safe(folder)
    try:
        require_buildable(AutoConfig.from_pretrained(folder, trust_remote_code=False), stock, str(folder))
    except (SelfRepairError, MemoryError):
        raise
    except Exception:  # loading fails in the same way, with a message
        pass
    return stock


def hub_folder(model: str, revision: str | None) -> Path | None:
    """The folder in the Hugging Face cache of a model of the hub, fetched if need be; None where there is none.

    Raises:
        SelfRepairError: it has no safetensors weights, or its index names something else.
    """
    config = _fetched(model, CONFIG, revision)
    if config is None:
        return None  # loading reports why
    if _fetched(model, WEIGHTS, revision) is None:
        index = _fetched(model, INDEX, revision)
        if index is None:
            raise SelfRepairError(
                f"The model '{model}' has no .safetensors weights (neither {WEIGHTS} nor {INDEX}).",
                "Take another repository or --revision of it; pickled weights can run any code when they are read.",
            )
        for name in indexed(index):
            _fetched(model, name, revision)
    _fetched(model, ADAPTER, revision)
    return config.parent


def _fetched(model: str, name: str, revision: str | None) -> Path | None:
    from transformers.utils import cached_file

    try:
        file = cached_file(model, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    except Exception:  # no such model, no network, no permission: loading reports why
        return None
    return None if file is None else Path(file)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights.

    Raises:
        SelfRepairError: there are none, or the index names something else than safetensors of this folder.
    """
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if not (folder / INDEX).exists():
        pickled = sorted(
            path.name for path in folder.glob("*") if path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")
        )
        beside = f"; {pickled[0]} is a pickle, which can run any code when it is read" if pickled else ""
        raise SelfRepairError(
            f"The folder {folder} holds no .safetensors weights (neither {WEIGHTS} nor {INDEX}){beside}.",
            "Save the model with save_pretrained, or name its .gguf file itself.",
        )
    return [folder / name for name in indexed(folder / INDEX)]


def indexed(index: Path) -> list[str]:
    """Names of the files that an index names.

    Raises:
        SelfRepairError: one that is not a plain name of a .safetensors file.
    """
    content = _read(index, _JSON_BYTES)
    named = content.get("weight_map")
    if not isinstance(named, dict) or not named:
        raise _unloadable(index.parent, f"{index.name} has no 'weight_map' with the file of each weight")
    for weight, name in named.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            shown = repr(name)[:80]
            raise SelfRepairError(
                f"{index} places the weight '{weight[:80]}' in {shown}; "
                "only .safetensors files inside the folder are read, since others can run code or lie elsewhere.",
                "Save the model again with save_pretrained, which writes safetensors.",
            )
    return sorted(set(named.values()))


def _require_json(path: Path) -> None:
    """Refuses a JSON file that is not a regular file, or is too large or too deep for later readers."""
    try:
        read_json(path, _JSON_BYTES)
    except (OSError, ValueError, RecursionError) as error:
        raise _unloadable(path.parent, f"{path.name} is not a valid JSON file: {error}") from None


def _read(path: Path, most: int) -> dict[str, Any]:
    try:
        content = read_json(path, most)
    except FileNotFoundError:
        raise _unloadable(path.parent, f"it has no {path.name}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise _unloadable(path.parent, f"{path.name} is not a valid JSON file: {error}") from None
    if not isinstance(content, dict):
        raise _unloadable(path.parent, f"{path.name} is JSON, but no object")
    return content


def _require_config(content: dict[str, Any], folder: Path) -> None:
    if "transformers_weights" in content:
        raise SelfRepairError(
            f"{folder / CONFIG} names a file of weights itself ('transformers_weights').",
            f"Remove that entry: weights are read from {WEIGHTS}, or from the files that {INDEX} names.",
        )
    for name, value in _numbers(content):
        limit = _MOST_COUNTED if _COUNTED.search(name) else _LARGEST
        if abs(value) > limit:
            raise SelfRepairError(f"{folder / CONFIG} has {name} = {value}; no model has more than {limit:,}.", _AGAIN)


def _numbers(content: Any, name: str = "") -> Iterator[tuple[str, int]]:
    """Integers of a configuration, with the names that they go by."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _numbers(value, str(key))
    elif isinstance(content, list):
        for value in content:
            yield from _numbers(value, "")
    elif type(content) is int:
        yield name, content


def _stock(path: Path) -> Stock:
    """The weights of a safetensors file by its header, which has to agree with the file's real size."""
    from safetensors import safe_open

    try:
        size = require_regular(path)
        with safe_open(path, "np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            weights = {
                name: StoredWeight(path, str(value.get_dtype()), tuple(value.get_shape()))
                for name, value in slices.items()
            }
    except FileNotFoundError:
        raise _unloadable(path.parent, f"it has no {path.name}, which its index names") from None
    except SelfRepairError:
        raise
    except Exception as error:  # safetensors has its own kinds
        raise _unloadable(path.parent, f"{path.name} is not a whole safetensors file: {error}") from None
    return Stock(weights, size)


def _unloadable(folder: Path, reason: str) -> SelfRepairError:
    return SelfRepairError(f"'{folder}' could not be loaded as a causal language model: {reason}.", _AGAIN)
