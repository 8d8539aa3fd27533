"""Finds the outputs of modules that make up what a block adds to the residual stream, with their multipliers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selfrepair.errors import RefusedModel
from selfrepair.model.gains import Holding, gained_writes
from selfrepair.model.scales import rounded
from selfrepair.model.trace import Trace

_FIT = 1e-7  # relative; random float64 weights leave rounding far below it and nothing else near it
_ROUNDING = 1e-11  # relative, of multipliers that least squares find in float64
_NEW = 1e-6  # part of an output that no other accounts for, from which on it counts as independent of them

Weighted = tuple[str, float]
"""A module's path, and the multiplier of its output."""


@dataclass(frozen=True)
class Writes:
    """`block output = stream * block input + sum of multiplier * write + a constant`.

    Attributes:
        attention: attention's write: the output projection, or a norm behind it; None in blocks without heads, and
            where heads write nothing into the stream, but into what a mixer reads (Zamba).
        mixer: the write of what moves information between positions without heads (state spaces, convolutions).
        mlps: writes of everything else: none, one, or several (experts beside an MLP, inputs of the layer's own).
        stream: what the block's input is multiplied with.
        constant: whether the block adds a vector, the same at all positions, that no module puts out.
        gained: whether every dimension of the input and of the writes has a multiplier of its own (`gains.py`), in
            place of those given here.
    """

    attention: Weighted | None
    mixer: Weighted | None
    mlps: tuple[Weighted, ...]
    stream: float = 1.0
    constant: bool = False
    gained: bool = False


def find_writes(clean: Trace, attention: str | None, projection: str | None, mixers: Sequence[str]) -> Writes:
    """The writes of a block with random weights.

    Args:
        clean: its forward.
        attention: the module with heads, if there is one.
        projection: its output projection.
        mixers: modules without heads that move information between positions.

    Raises:
        RefusedModel: its output is not such a sum.
    """
    if attention is not None and projection is not None and not mixers:
        pair = _pair(clean, attention, projection)
        if pair is not None:
            return pair
    for constant, scaled in ((False, False), (False, True), (True, False), (True, True)):
        found = _several(clean, attention, projection, mixers, scaled, constant)
        if found is not None:
            return found
    raise RefusedModel(
        "residual sum",
        "a block's output is not its input plus what attention and the MLP write.",
        "Post-norm trunks (OPT-350m, the original BERT layout) and several residual streams are not supported.",
    )


def find_gained_writes(
    holding: Holding, clean: Trace, attention: str | None, projection: str | None, mixers: Sequence[str]
) -> Writes | None:
    """The writes of a block with random weights that has gains by dimension; None where it has not.

    Args:
        holding: the block.
        clean: its forward.
        attention: the module with heads, if there is one.
        projection: its output projection.
        mixers: modules without heads that move information between positions.
    """
    moving = [*([] if projection is None else [projection]), *mixers]
    if len(moving) != 1:
        return None
    inside = [*mixers, *([] if attention is None else [attention])]
    chosen = gained_writes(holding, list(_behind(clean, moving[0])), _outside(clean, inside, ""))
    if chosen is None:
        return None
    first, mlps = (chosen[0], 1.0), tuple((name, 1.0) for name in chosen[1:])
    of_heads = projection is not None
    return Writes(first if of_heads else None, None if of_heads else first, mlps, constant=True, gained=True)


def _pair(clean: Trace, attention: str, projection: str) -> Writes | None:
    """The usual case: two outputs that make up what the block adds, by least squares."""
    added = (clean.left - clean.entered).flatten()
    for attention_write in _behind(clean, projection):
        for mlp_write in _outside(clean, [attention], attention_write):
            pair = torch.stack([_flat(clean, attention_write), _flat(clean, mlp_write)], 1)
            fit = torch.linalg.lstsq(pair, added).solution
            if (pair @ fit - added).norm() < _FIT * added.norm():
                multipliers = [rounded(float(value), _ROUNDING) for value in fit]
                is_write = pair[:, 1].norm() * abs(multipliers[1]) > _FIT * added.norm()
                mlps = ((mlp_write, multipliers[1]),) if is_write else ()
                return Writes((attention_write, multipliers[0]), None, mlps)
    return None


def _several(
    clean: Trace, attention: str | None, projection: str | None, mixers: Sequence[str], scaled: bool, constant: bool
) -> Writes | None:
    """Any number of writes: all outputs that are independent of each other go into one least-squares problem, and those
    that are no writes come out as zero.

    Args:
        clean: the block's forward.
        attention: the module with heads.
        projection: its output projection.
        mixers: modules without heads that move information between positions.
        scaled: whether the block's input may be multiplied as well.
        constant: whether the block may add a constant: fitted is then what differs between positions.
    """

    def compared(value: Tensor) -> Tensor:
        per_position = value.reshape(clean.left.shape)
        return (per_position - per_position.mean(1, keepdim=True) if constant else per_position).flatten()

    of_heads = [] if projection is None else list(_behind(clean, projection))
    of_mixers = {name: list(_behind(clean, name)) for name in mixers}
    inside = [*mixers, *([] if attention is None else [attention])]
    named = [*of_heads, *(name for names in of_mixers.values() for name in names)]
    candidates = [*named, *(name for name in _outside(clean, inside, "") if name not in named)]
    columns = {name: compared(_flat(clean, name)) for name in candidates}
    entered, left = compared(clean.entered), compared(clean.left)
    chosen = _fitted({"": entered} | columns, left) if scaled else _fitted(columns, left - entered)
    if chosen is None:
        return None
    stream = chosen.pop("", 0.0) if scaled else 1.0
    heads = [name for name in chosen if name in of_heads]
    mixing = [name for names in of_mixers.values() for name in names if name in chosen]
    rest = [name for name in chosen if name not in (*heads, *mixing)]
    if inside and not heads and not mixing:  # what was moved goes into the stream through the one module that writes
        mixing, rest = rest, []
        if len(mixing) != 1:
            return None
    if len(heads) > 1 or len(mixing) > 1 or not stream:
        return None
    return Writes(
        (heads[0], chosen[heads[0]]) if heads else None,
        (mixing[0], chosen[mixing[0]]) if mixing else None,
        tuple((name, chosen[name]) for name in rest),
        stream,
        constant,
    )


def _fitted(columns: dict[str, Tensor], added: Tensor) -> dict[str, float] | None:
    """The columns that make up `added`, with their multipliers; None where nothing does.

    Of columns that depend on each other (a dropout and what it reads), the first is taken.
    """
    basis: list[Tensor] = []
    kept: list[str] = []
    for name, column in columns.items():
        left = column / column.norm().clamp_min(1e-300)
        for _ in range(2):  # once more for what rounding left
            for direction in basis:
                left = left - (direction @ left) * direction
        if left.norm() > _NEW:
            basis.append(left / left.norm())
            kept.append(name)
    if not kept:
        return None
    matrix = torch.stack([columns[name] for name in kept], 1)
    fit = torch.linalg.lstsq(matrix, added).solution
    if (matrix @ fit - added).norm() >= _FIT * added.norm():
        return None
    sizes = fit.abs() * matrix.norm(dim=0)
    return {
        name: rounded(float(value), _ROUNDING)
        for name, value, size in zip(kept, fit, sizes, strict=True)
        if size > _FIT * added.norm()
    }


def _flat(clean: Trace, name: str) -> Tensor:
    return clean.calls[name].output.flatten()


def _behind(clean: Trace, first: str) -> Iterator[str]:
    """A module, then modules that read its output (norms behind it)."""
    yield first
    written = _flat(clean, first)
    for name, call in clean.calls.items():
        if call.inputs and call.output.numel() == written.numel() and torch.equal(call.inputs[0].flatten(), written):
            yield name


def _outside(clean: Trace, modules: Sequence[str], write: str) -> list[str]:
    """Modules that are in none of `modules` and put out as much as the stream holds, outermost first."""
    names = [
        name
        for name, call in clean.calls.items()
        if not any(f"{name}.".startswith(f"{module}.") for module in modules)
        and name != write
        and call.output.numel() == clean.entered.numel()
    ]
    return sorted(names, key=lambda name: name.count("."))  # 'mlp' rather than 'mlp.down_proj'
