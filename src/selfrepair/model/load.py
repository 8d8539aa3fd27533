"""Loads models: a hub id, a local folder, a GGUF file, the embedded default, or an object already in memory."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from selfrepair.engine.ablation_proofs import require_ablations
from selfrepair.errors import RefusedModel, SelfRepairError
from selfrepair.model.anatomy import Anatomy
from selfrepair.model.default import NAME, ON_FILE, cache_folder, default_model_folder
from selfrepair.model.dissect import dissect
from selfrepair.model.faults import finding
from selfrepair.model.given_objects import advice, as_network, require_decoder
from selfrepair.model.language_model import LanguageModel, Source
from selfrepair.model.model_folder import hub_folder, require_loadable
from selfrepair.model.offload import Offload, onto_disk
from selfrepair.model.plain_copy import plain_copy
from selfrepair.model.pretrained import DTYPES, from_pretrained, read_gguf, require_package
from selfrepair.model.proofs import prove_at_load
from selfrepair.model.stored.stock import OnFile
from selfrepair.model.weights import require_measurable

_INCIDENTAL = re.compile("_|name_or_path|transformers_version|architectures|use_cache|return_dict|output_|.*dtype")


def load(
    model: Any = "default",
    tokenizer: Any = None,
    *,
    dtype: str = "float32",
    device: str = "auto",
    revision: str | None = None,
    attention: str | None = None,
    offload: bool = False,
) -> LanguageModel:
    """Loads a causal language model, finds its parts and proves the identities that every result rests on.

    Example:
        >>> load(network, tokenizer)  # objects that you have; or "default", a folder, a hub id, a GGUF file
        LanguageModel(GPT2LMHeadModel: 2 layers x 2 heads, float32)

    Args:
        model: `default`, a hub id, a folder with safetensors, a `.gguf` file, or a Hugging Face model object. Of models
            that read images or sound too, what they compute of text alone is measured.
        tokenizer: its tokenizer, where `model` is an object.
        dtype: `float32` or `float64`, whatever is on file; an object in memory is used at its own precision.
        device: where to compute; `auto` takes a GPU where there is one.
        revision: branch, tag or commit of a hub model.
        attention: Hugging Face's attention implementation, `sdpa` or `eager`; its own choice by default.
        offload: whether weights stay on disk, except those of the running block; for models larger than memory. They
            are kept at `dtype` in a scratch file in the cache folder (`SELFREPAIR_CACHE`) as long as the process lives;
            quantised ones are in memory as a whole before that.

    Raises:
        SelfRepairError: unknown model or device, weights that are missing or not finite, no tokenizer; no room for
            offloaded weights on disk.
        RefusedModel: an identity fails for the model; names the identity.
    """
    if dtype not in DTYPES:
        raise SelfRepairError(
            f"dtype has to be one of {', '.join(DTYPES)}, got '{dtype}'.",
            "Give float32: what heads repair for each other drowns in the rounding of half precision. Speed comes from "
            "the engine, which takes low precision for differences alone, where a trial finds that right.",
        )
    source: Source | None = None
    disk: Offload | None = None
    on_file: OnFile | None = None
    if not isinstance(model, str | os.PathLike):
        if offload:
            raise SelfRepairError("Only models that are loaded by name can be offloaded.", "Give the model's folder.")
        network = as_network(model)
        name = _name_of(network)
    else:
        network, tokenizer, name, on_file = _read(str(model), "auto" if offload else dtype, revision, attention)
        require_decoder(network)
        if offload:
            network, disk = _onto_disk(network, dtype, device)
        else:
            network = _on_device(network, device)
        with finding("the eager code of its modules"):
            network = plain_copy(network)
        source = {
            **{"model": _from_anywhere(str(model)), "dtype": dtype, "device": device},
            **{"revision": revision, "attention": attention, "offload": offload},
        }
    with finding("its eval mode"):
        network.eval()
    with _advising(network), torch.no_grad():
        loaded = _prepared(network, name, tokenizer, source, disk)
    measured = str(loaded.dtype).removeprefix("torch.")
    return replace(loaded, weights=f"{measured}, as given" if on_file is None else on_file.measured_in(measured))


def _prepared(network: Any, name: str, tokenizer: Any, source: Source | None, disk: Offload | None) -> LanguageModel:
    """Checks weights, finds parts, proves the identities; whatever fails there is a refusal that names the step."""
    with finding("weights that can be measured"):
        require_measurable(network)
        _keep_experts_exact(network)
    anatomy = dissect(network)
    with finding("the weights' digest"):
        digest = weights_digest(network)
    if disk is not None:
        disk.follow([block.module for block in anatomy.blocks])
        disk.release()  # all weights have just been read
    loaded = LanguageModel(name, network, tokenizer, anatomy, digest, source, disk is not None)
    with finding("proofs of its identities"):
        loaded = _proven(loaded)
        require_ablations(loaded)
    return loaded


def _proven(loaded: LanguageModel) -> LanguageModel:
    """The model with its identities proved. Where writes do not add up, every layer is studied by itself first, since
    multipliers may depend on a layer's number (Beam); where blocks do not run alone, the trunk has to run them."""
    remedies: dict[str, Callable[[Anatomy], Anatomy]] = {
        "residual sum": lambda anatomy: replace(dissect(loaded.network, each_layer=True), alone=anatomy.alone),
        "blocks replay": lambda anatomy: replace(anatomy, alone=False),
    }
    while True:
        try:
            prove_at_load(loaded)
        except RefusedModel as refused:
            remedy = remedies.pop(refused.identity, None)
            if remedy is None:
                raise
            loaded = replace(loaded, anatomy=remedy(loaded.anatomy))
        else:
            return loaded


@contextmanager
def _advising(network: nn.Module) -> Iterator[None]:
    """Adds to a refusal what the user can do about this model, where that can be seen."""
    try:
        yield
    except RefusedModel as refused:
        with finding("what to give instead"):
            fix = advice(network, refused.fix)
        raise RefusedModel(refused.identity, refused.reason, fix, refused.proofs) from (refused.__cause__ or refused)


def _from_anywhere(model: str) -> str:
    """A model's name as other processes, in other folders, find the same one: `default` is no folder of that name."""
    path = Path(model).expanduser()
    return str(path.resolve()) if model != "default" and path.exists() else model


def weights_digest(network: nn.Module) -> str:
    """Identity of a model: sha256 over every tensor's name, type, shape and bytes, and over its configuration, which
    says what is computed with them."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    digest.update(_configuration(network).encode())
    return digest.hexdigest()


def _configuration(network: nn.Module) -> str:
    """A model's configuration without where it came from and what its forward returns."""
    described: dict[str, Any] = getattr(getattr(network, "config", None), "to_dict", dict)()
    kept = {name: value for name, value in described.items() if not _INCIDENTAL.match(str(name))}
    return json.dumps(kept, sort_keys=True, default=str)


def _read(model: str, dtype: str, revision: str | None, attention: str | None) -> tuple[Any, Any, str, OnFile]:
    """A model by its name: network, tokenizer, name in results, and what its weights are on file."""
    extra: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    path = Path(model).expanduser()
    if revision is not None and (model == "default" or path.exists()):
        raise SelfRepairError(
            f"'{model}' has no revisions; --revision {revision} was given.",
            "Leave --revision out, or give the id of a model on the Hugging Face hub.",
        )
    if model == "default":
        network, tokenizer, _ = from_pretrained(str(default_model_folder()), dtype, **extra)
        return network, tokenizer, NAME, ON_FILE
    if path.suffix == ".gguf":
        if not path.is_file():
            raise SelfRepairError(f"There is no file {path}.", "Give the path of a .gguf file.")
        network, tokenizer, on_file = read_gguf(path, dtype)
        return network, tokenizer, path.stem, on_file
    if path.is_dir():
        network, tokenizer, on_file = from_pretrained(str(path), dtype, require_loadable(path), **extra)
        return network, tokenizer, Path(os.path.abspath(path)).name, on_file  # noqa: PTH100 - a link keeps its name
    if path.exists() or model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise SelfRepairError(
            f"'{model}' is neither a folder, a .gguf file nor a hub id.",
            "Give 'default', a folder with safetensors, a .gguf file, or an id such as EleutherAI/pythia-160m.",
        )
    cached = hub_folder(model, revision)
    stock = None if cached is None else require_loadable(cached)
    if revision is not None:
        extra["revision"] = revision
    network, tokenizer, on_file = from_pretrained(model, dtype, stock, **extra)
    return network, tokenizer, model, on_file


def _onto_disk(network: Any, dtype: str, device: str) -> tuple[Any, Offload]:
    if device not in ("auto", "cpu"):
        raise SelfRepairError(
            f"Offloaded weights are used where they are mapped, by the CPU; the device is '{device}'.",
            "Leave --device out, or --offload where the model fits on the device.",
        )
    require_package("accelerate", "offload")
    return onto_disk(network, DTYPES[dtype], cache_folder() / "offload")


def _on_device(network: Any, device: str) -> Any:
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        return network.to(chosen)
    except (RuntimeError, AssertionError) as error:  # an unknown device, one that is not there, or a full one
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise SelfRepairError(
            f"The model cannot be put on the device '{chosen}': {reason[0]}", "Try --device cpu."
        ) from error


def _name_of(network: nn.Module) -> str:
    try:
        named = getattr(getattr(network, "config", None), "name_or_path", "")
    except Exception:  # a configuration that raises on access
        named = ""
    return named or type(network).__name__


def _keep_experts_exact(network: Any) -> None:
    """Routes experts one by one: the grouped kernels know no float64."""
    setter = getattr(network, "set_experts_implementation", None)
    if callable(setter) and hasattr(getattr(network, "config", None), "_experts_implementation"):
        setter("eager")
