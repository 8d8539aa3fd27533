"""Checks that weights are complete, in this process's memory, of full floating-point precision, and finite."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from selfrepair.errors import SelfRepairError

_OFFLOAD = (
    "Give its name or folder and weights are kept on disk: selfrepair.load(name, offload=True), or --offload on the "
    "command line; or load it whole, without device_map."
)
_PACKED = ("qweight", "W_q", "weight_packed")  # what quantised layers call weights that are no longer matrices
_FINE = {torch.float32, torch.float64}


def require_measurable(network: nn.Module) -> None:
    """Refuses weights that are elsewhere, in parts, packed, too coarse, or not finite.

    Raises:
        SelfRepairError: names the weight, and what to give instead.
    """
    _require_here(network)
    _require_unpacked(network)
    _require_precision(network)
    _require_finite(network)


def _require_here(network: nn.Module) -> None:
    """Refuses weights that are not in this process's memory, or not on one device."""
    weights = dict(network.named_parameters())
    tensors = weights | dict(network.named_buffers())
    away = [name for name, value in tensors.items() if value.is_meta]
    if away:
        raise SelfRepairError(
            f"The weight '{away[0]}' is not in memory ({len(away)} of {len(tensors)} are not): accelerate has "
            "offloaded it (device_map, cpu_offload, disk_offload), or the model was made without weights.",
            _OFFLOAD,
        )
    sharded = [name for name, value in weights.items() if hasattr(value, "device_mesh") or hasattr(value, "ds_id")]
    if sharded:
        raise SelfRepairError(
            f"The weight '{sharded[0]}' is shared out between processes (FSDP, tensor parallelism, DeepSpeed).",
            "Give a model that is whole in one process, or the name or folder that it was saved under.",
        )
    devices = sorted({str(value.device) for value in weights.values()})
    if len(devices) > 1:
        raise SelfRepairError(f"The model's weights lie on several devices: {', '.join(devices)}.", _OFFLOAD)


def _require_unpacked(network: nn.Module) -> None:
    """Refuses quantised weights: they are not matrices of floating-point numbers."""
    for path, module in network.named_modules():
        if _is_packed(module):
            raise SelfRepairError(
                f"The weights of '{path}' are quantised ({type(module).__name__}); effects are measured in float32 or "
                "float64.",
                "Give its name or folder, whose weights are dequantised while they are read; or the model before "
                "quantisation; or dequantise it: model.dequantize() in transformers.",
            )


def _is_packed(module: nn.Module) -> bool:
    try:
        weight = getattr(module, "weight", None)
    except Exception:  # a property that unpacks, and fails
        return True
    if isinstance(weight, Tensor):
        return weight.is_quantized or not (weight.is_floating_point() or weight.is_complex())
    if callable(weight) and not isinstance(weight, nn.Module):
        return True  # torch.ao's layers unpack on call
    return any(isinstance(getattr(module, name, None), Tensor) for name in _PACKED)


def _require_precision(network: nn.Module) -> None:
    """Refuses weights of a model in memory that are too coarse, or of two precisions: they are used as they are."""
    kinds = {value.dtype for value in network.parameters() if value.is_floating_point()}
    coarse = kinds - _FINE
    names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in coarse or kinds))
    if not coarse and len(kinds) > 1:
        raise SelfRepairError(
            f"The model's weights are of several precisions: {names}.", "Convert it: model.float(), or model.double()."
        )
    if coarse:
        raise SelfRepairError(
            f"The model's weights are {names}; effects are measured in float32 or float64.",
            "Load it with dtype=torch.float32, convert it with model.float(), or give its name or folder instead.",
        )


def _require_finite(network: nn.Module) -> None:
    head = getattr(network, "get_output_embeddings", lambda: None)()
    maskable = getattr(head, "bias", None)  # a row of the vocabulary that is at -inf there is masked
    for name, value in network.named_parameters():
        known = torch.isfinite(value) | torch.isneginf(value) if value is maskable else torch.isfinite(value)
        if not known.all():
            raise SelfRepairError(
                f"The weight '{name}' holds values that are not finite.",
                "The file is damaged or training diverged; take the weights again.",
            )
