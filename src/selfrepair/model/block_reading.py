"""Reads the parts of a block from its real weights, once its structure is known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from selfrepair.errors import RefusedModel
from selfrepair.model.anatomy import Absent, Block
from selfrepair.model.gains import Gains, read_gains
from selfrepair.model.head_layout import HeadLayout
from selfrepair.model.norms import REFUSED, Norm, read_norm
from selfrepair.model.structure import Structure, as_double
from selfrepair.model.taps import (
    Arguments,
    first_tensor,
    keeping,
    main_input,
    on_input,
    on_output,
    removing,
    with_input,
)
from selfrepair.model.write_search import Weighted


def read_block(
    module: nn.Module,
    structure: Structure,
    arguments: Arguments,
    width: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Block:
    """A block's modules, weights and constants.

    Args:
        module: the block.
        structure: of its kind.
        arguments: captured arguments of a call of it.
        width: width of the residual stream.
        dtype: of the model.
        device: of the model.

    Raises:
        RefusedModel: heads have no value constant though they are means of values, or an unknown norm follows them.
    """
    found, writes = structure.heads, structure.writes
    gains, gained_constant = _gains(module, structure, arguments, dtype, device)
    attention, attention_multiplier = _part(module, writes.attention)
    mixer, mixer_multiplier = _part(module, writes.mixer)
    mlps = [_part(module, write) for write in (writes.mlps or (None,))]
    projection = Absent() if found is None else module.get_submodule(found.projection)
    written = [(attention, attention_multiplier), (mixer, mixer_multiplier), *mlps]
    at_zero, left, constant = _at_zero(module, projection, written, arguments)
    if found is None:
        weight, values = torch.zeros(0, 0, width, dtype=dtype, device=device), at_zero.new_zeros(0, 0)
    else:
        stored: Tensor = projection.weight  # type: ignore[assignment]
        oriented = stored.detach().T if found.transposed else stored.detach()
        weight = oriented.reshape(found.layout.heads, found.layout.head_dim, width)
        values = _value_constant(at_zero.reshape(-1, found.layout.heads, found.layout.head_dim), found.layout)
    return Block(
        module=module,
        projection=projection,
        output_weight=weight,
        value_constant=values,
        plain_means=found is None or found.layout.plain_means,
        attention_write=attention,
        attention_multiplier=attention_multiplier,
        attention_norm=_post_norm(module, structure, width, dtype, device),
        mlp_write=mlps[0][0],
        mlp_multiplier=mlps[0][1],
        parallel=structure.parallel,
        returns=len(left) if isinstance(left, tuple) else 0,
        mixer_write=mixer,
        mixer_multiplier=mixer_multiplier,
        more_mlps=tuple(mlps[1:]),
        stream_multiplier=writes.stream,
        constant=(constant if gains is None else gained_constant) if writes.constant else None,
        gains=gains,
    )


def _gains(
    module: nn.Module, structure: Structure, arguments: Arguments, dtype: torch.dtype, device: torch.device
) -> tuple[Gains | None, Tensor | None]:
    """Gains by dimension, and the constant beside them; neither in blocks without."""
    writes = structure.writes
    if not writes.gained:
        return None, None
    named = [write for write in (writes.attention, writes.mixer, *writes.mlps) if write is not None]
    found = read_gains(module, as_double(arguments), [name for name, _ in named])
    if found is None:
        raise RefusedModel("residual sum", "what a block adds has no gain for each dimension.", "Load the plain model.")
    stream, constant, *each = (
        value.to(dtype=dtype, device=device) for value in (found.stream, found.constant, *found.writes)
    )
    one, mlps = torch.ones_like(stream), tuple(each[1:])
    attention, mixer = (each[0], one) if writes.attention is not None else (one, each[0])
    return Gains(stream, attention, mixer, mlps, one), constant


def _part(module: nn.Module, write: Weighted | None) -> tuple[nn.Module, float]:
    return (Absent(), 1.0) if write is None else (module.get_submodule(write[0]), write[1])


def _post_norm(
    module: nn.Module, structure: Structure, width: int, dtype: torch.dtype, device: torch.device
) -> Norm | None:
    """The norm behind attention, where there is one."""
    attention = structure.writes.attention
    if attention is None or not structure.normed_after:
        return None
    norm = read_norm(module.get_submodule(attention[0]), width, dtype, device)
    if norm is None:
        raise RefusedModel("post-norm", f"'{attention[0]}' computes neither LayerNorm nor RMSNorm.", REFUSED)
    return norm


def _at_zero(
    module: nn.Module, projection: nn.Module, written: list[tuple[nn.Module, float]], arguments: Arguments
) -> tuple[Tensor, Any, Tensor]:
    """With a residual stream that is zero everywhere: the projection's input, all that the block returns, and what of
    its output no write accounts for, [width]."""
    zeros = torch.zeros_like(main_input(arguments))
    seen: dict[str, Tensor] = {}
    writes: dict[int, Tensor] = {}
    taps = [on_output(part, keeping(writes, number, zeros.shape)) for number, (part, _) in enumerate(written)]
    with removing(on_input(projection, keeping(seen, "input")), *taps):
        args, kwargs = with_input(arguments, zeros)
        left = module(*args, **kwargs)
    accounted = sum((written[number][1] * write for number, write in writes.items()), zeros)
    unwritten = (first_tensor(left).reshape(zeros.shape) - accounted).flatten(0, -2).mean(0)
    return seen.get("input", zeros[..., :0]), left, unwritten


def _value_constant(constants: Tensor, layout: HeadLayout) -> Tensor:
    """Heads' outputs [head, head_dim] at a zero stream: a norm then gives its bias, and all values are equal. Zero for
    heads that are no plain means: of what a gate or a sink makes of a constant, no part is the same for all texts."""
    if not layout.plain_means:
        return torch.zeros_like(constants[0])
    spread = (constants - constants[0]).abs().max()
    if spread > 1e-4 * constants.abs().max().clamp_min(1e-6):
        raise RefusedModel(
            "value constant",
            f"with equal values everywhere, heads' outputs differ by {spread:.1e}.",
            "Heads have to be weighted means of values: attention that adds something by position is not supported.",
        )
    return constants[0]
