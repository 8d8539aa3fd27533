"""Formats of quantised weights, and the float32 matrices that they stand for.

A format stores a matrix as several tensors beside each other (its *parts*), with names that end alike. What they stand
for is written here as each format defines it; nothing is rounded beyond float32.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from selfrepair.model.stored.bits import fp4_pairs, in_blocks, powers_of_two, spread, unpacked

Parts = Mapping[str, Tensor]
"""Tensors that make a matrix, by the end of their names."""
Settings = Mapping[str, Any]
"""`quantization_config` of the checkpoint's config.json."""

_AWQ_ORDER = [0, 4, 1, 5, 2, 6, 3, 7]  # where AWQ's gemm layout puts eight neighbouring columns
_INTEGERS = (torch.int8, torch.uint8)


@dataclass(frozen=True)
class Format:
    """A way to store a matrix.

    Attributes:
        parts: ends of the names of its tensors, the first one's gives the matrix its name.
        named: what the first one's end becomes in the matrix's name.
        dense: from the parts that are there, to float32.
        needed: which of the parts have to be there; the first two by default.
    """

    parts: tuple[str, ...]
    named: str
    dense: Callable[[Parts, Settings], Tensor]
    needed: int = 2


def _fp8(parts: Parts, settings: Settings) -> Tensor:
    """Blocks of float8, or of FP4 in bytes, that share a scale (DeepSeek-V3, Qwen3-FP8)."""
    weight, scale = parts.values()
    values = fp4_pairs(weight) if weight.dtype in _INTEGERS else weight.float()
    scale = powers_of_two(scale) if _is_exponent(scale) else scale
    return values * spread(scale, values.shape, settings.get("weight_block_size"))


def _mxfp4(parts: Parts, _: Settings) -> Tensor:
    """gpt-oss's experts: FP4 in blocks of 32 that share a power of two.

    [expert, out, block, 16] -> [expert, in, out].
    """
    values = fp4_pairs(parts["_blocks"]) * powers_of_two(parts["_scales"]).unsqueeze(-1)
    return values.flatten(-2).transpose(-1, -2).contiguous()


def _gptq(parts: Parts, settings: Settings) -> Tensor:
    """Integers packed along the input, with zeros that are stored less one unless the format is gptq_v2."""
    bits = settings["bits"]
    values = unpacked(parts[".qweight"], bits, 0)
    zeros = unpacked(parts[".qzeros"], bits, 1) + (0 if settings.get("checkpoint_format") == "gptq_v2" else 1)
    scales = parts[".scales"].float()
    group = parts.get(".g_idx")
    if group is None:
        group = torch.arange(len(values)) // (len(values) // len(scales))
    dense: Tensor = (values - zeros[group.long()]) * scales[group.long()]
    return dense.T.contiguous()


def _awq(parts: Parts, settings: Settings) -> Tensor:
    """4-bit integers packed along the output, eight columns in an order of AWQ's own (the gemm layout)."""
    values, zeros = (
        unpacked(parts[name], 4, 1).reshape(len(parts[name]), -1, 8)[..., _AWQ_ORDER].flatten(1)
        for name in (".qweight", ".qzeros")
    )
    scales = parts[".scales"].float()
    group = torch.arange(len(values)) // (len(values) // len(scales))
    dense: Tensor = (values - zeros[group]) * scales[group]
    return dense.T.contiguous()


def _bitsandbytes_4bit(parts: Parts, _: Settings) -> Tensor:
    """NF4 or FP4 by a table, two in a byte with the high one first; blocks share a maximum, which may be quantised too
    ("double quantisation")."""
    packed = parts[".weight"].flatten()
    state = next(value for name, value in parts.items() if name.startswith(".weight.quant_state"))
    facts = json.loads(bytes(state.tolist()))
    largest = parts[".weight.absmax"]
    if ".weight.nested_absmax" in parts:
        inner = in_blocks(parts[".weight.nested_absmax"], facts["nested_blocksize"], largest.numel())
        largest = parts[".weight.nested_quant_map"][largest.long()] * inner + facts["nested_offset"]
    codes = torch.stack([packed >> 4, packed & 15], -1).flatten().long()
    values = parts[".weight.quant_map"].float()[codes]
    values = values * in_blocks(largest.float(), facts["blocksize"], values.numel())
    return values.reshape(facts["shape"])


def _bitsandbytes_8bit(parts: Parts, _: Settings) -> Tensor:
    """int8 rows, scaled to the largest entry of each."""
    return parts[".weight"].float() * (parts[".SCB"].float() / 127).reshape(-1, 1)


def _packed_integers(parts: Parts, _: Settings) -> Tensor:
    """compressed-tensors' signed integers packed along the input, less their smallest value; and FP4 in bytes."""
    packed, scale = parts[".weight_packed"], parts[".weight_scale"]
    if packed.dtype == torch.uint8:
        values = fp4_pairs(packed)
        scale = powers_of_two(scale) if _is_exponent(scale) else scale.float()
        overall = parts.get(".weight_global_scale")
        return values * spread(scale if overall is None else scale / overall.float(), values.shape)
    rows, columns = parts[".weight_shape"].tolist()
    bits = 32 * packed.shape[1] // columns
    if -(-columns * bits // 32) != packed.shape[1]:
        raise ValueError(f"{columns} numbers in {packed.shape[1]} words do not lie side by side")
    values = (unpacked(packed, bits, 1)[:, :columns] - 2 ** (bits - 1)).float()
    zeros = parts.get(".weight_zero_point")
    if zeros is not None and zeros.dtype == torch.int32:
        zeros = unpacked(zeros, bits, 0)[:rows] - 2 ** (bits - 1)
    return _affine(values, scale, zeros, parts.get(".weight_g_idx"), None)


def _scaled(parts: Parts, settings: Settings) -> Tensor:
    """compressed-tensors' and FBGEMM's float8 or int8, one number in a byte, with scales of any blocks."""
    groups = settings.get("config_groups") or {}
    blocks = [(group.get("weights") or {}).get("block_structure") for group in groups.values()]
    block = next((block for block in blocks if isinstance(block, list)), None)
    scale = parts[".weight_scale"]
    scale = powers_of_two(scale) if _is_exponent(scale) else scale
    return _affine(parts[".weight"].float(), scale, parts.get(".weight_zero_point"), parts.get(".weight_g_idx"), block)


def _affine(
    values: Tensor, scale: Tensor, zeros: Tensor | None, group: Tensor | None, block: list[int] | None
) -> Tensor:
    """`(values - zeros) * scale`, by the group of each column where that is given."""

    def wide(given: Tensor) -> Tensor:
        if group is not None and bool((group >= 0).all()) and given.ndim == 2 and given.shape[1] > 1:
            return given.float()[:, group.long()]
        return spread(given, values.shape, block)

    return (values if zeros is None else values - wide(zeros)) * wide(scale)


def _is_exponent(scale: Tensor) -> bool:
    return scale.dtype in (torch.uint8, getattr(torch, "float8_e8m0fnu", torch.uint8))


_AFFINE = (".weight_scale", ".weight_zero_point", ".weight_g_idx")
_BLOCK_MAXIMA = (".weight.absmax", ".weight.quant_map", ".weight.nested_absmax", ".weight.nested_quant_map")
_STATES = (".weight.quant_state.bitsandbytes__nf4", ".weight.quant_state.bitsandbytes__fp4")

FORMATS: dict[str, tuple[Format, ...]] = {
    "fp8": (
        Format(("", "_scale_inv"), "", _fp8),
        Format((".weight", ".scale"), ".weight", _fp8),  # DeepSeek-V4
        Format((".weight", ".qscale_weight"), ".weight", _fp8),  # Mistral Large
    ),
    "mxfp4": (Format(("_blocks", "_scales"), "", _mxfp4),),
    "gptq": (Format((".qweight", ".scales", ".qzeros", ".g_idx"), ".weight", _gptq, needed=3),),
    "awq": (Format((".qweight", ".scales", ".qzeros"), ".weight", _awq, needed=3),),
    "bitsandbytes": (
        Format((".weight", *_BLOCK_MAXIMA, *_STATES), ".weight", _bitsandbytes_4bit, needed=3),
        Format((".weight", ".SCB"), ".weight", _bitsandbytes_8bit),
    ),
    "compressed-tensors": (
        Format((".weight_packed", *_AFFINE, ".weight_shape", ".weight_global_scale"), ".weight", _packed_integers),
        Format((".weight", *_AFFINE), ".weight", _scaled),
    ),
    "fbgemm_fp8": (Format((".weight", ".weight_scale"), ".weight", _scaled),),
}
"""By `quant_method`, as config.json calls it."""
