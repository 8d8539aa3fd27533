"""Finds the parts of a decoder block by what its modules do rather than by their names.

Weights of a trained or hand-set model may hide structure (a bias of zero, a head that writes nothing), so a
block is studied on a copy with random weights. Three facts decide:

* attention is the module that moves information between positions and has heads; a module that moves it without heads
  (a state space, a convolution, linear attention that is not linear in its values) is a mixer;
* the output projection is the last linear map inside it, and its input holds the heads side by side (`head_layout.py`);
* what attention and the MLP write are the two outputs whose sum, with multipliers, is what the block adds to
  the residual stream, or the several of them (`write_search.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from selfrepair.errors import RefusedModel
from selfrepair.model.carried import changed, made_of_input
from selfrepair.model.gains import Holding
from selfrepair.model.head_layout import HeadLayout, head_layout
from selfrepair.model.plain_copy import require_own_functions
from selfrepair.model.precision import running
from selfrepair.model.taps import Arguments
from selfrepair.model.trace import Trace, perturbed, trace
from selfrepair.model.write_search import Writes, find_gained_writes, find_writes

_FIT = 1e-7  # relative; random float64 weights leave rounding far below it and nothing else near it


@dataclass(frozen=True)
class Heads:
    """Attention with heads.

    Attributes:
        projection: path of its output projection, whose input holds all heads' outputs side by side.
        layout: how they lie there.
        transposed: whether the projection's weight is stored as [width, heads * head_dim] (`nn.Linear`).
    """

    projection: str
    layout: HeadLayout
    transposed: bool


@dataclass(frozen=True)
class Structure:
    """Module paths inside a block, and what could be read from their behaviour.

    Attributes:
        heads: attention with heads; None in blocks without any.
        writes: what the block's output is a sum of.
        parallel: whether the MLP reads the block's input rather than attention's result.
    """

    heads: Heads | None
    writes: Writes
    parallel: bool

    @property
    def normed_after(self) -> bool:
        """Whether attention's write passes through a norm before it is added."""
        attention = self.writes.attention
        return self.heads is not None and attention is not None and attention[0] != self.heads.projection


def signature(block: nn.Module) -> tuple[object, ...]:
    """Blocks with equal signatures have equal structure: module classes, parameter shapes and scalars by path."""
    modules = tuple((name, type(module).__name__) for name, module in block.named_modules())
    shapes = tuple((name, tuple(value.shape)) for name, value in block.named_parameters())
    scalars = tuple((name, value.item()) for name, value in block.named_buffers() if value.numel() == 1)
    return modules + shapes + scalars


def find_structure(block: nn.Module, arguments: dict[int, Arguments], width: int) -> Structure:
    """Studies a copy of `block` with random weights.

    Args:
        block: a decoder block.
        arguments: captured arguments of the block in real forwards of 1 window, by number of positions;
            1, 2 and some larger number are needed.
        width: width of the residual stream.

    Raises:
        RefusedModel: where the block's output is not a sum of its input and of what its modules write.
    """
    with running(torch.float64), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        studied = _random_copy(block)
        wide = {positions: as_double(given) for positions, given in arguments.items()}
        given = made_of_input(wide)

        def traced(states: Tensor) -> Trace:
            return trace(studied, given(states), states)

        hidden = torch.randn(1, max(wide), width, dtype=torch.float64)
        clean, moved = traced(hidden), traced(perturbed(hidden))
        movers = _movers(clean, moved)
        attention, heads = _with_heads(studied, traced, clean, movers, width)
        projection = None if heads is None else heads.projection
        mixers = [name for name in movers if name != attention]
        try:
            writes = find_writes(clean, attention, projection, mixers)
        except RefusedModel:
            holding = Holding(studied, given(hidden), clean)
            gained = find_gained_writes(holding, clean, attention, projection, mixers)
            if gained is None:
                raise
            writes = gained
        heads = None if writes.attention is None else heads
        parallel = not any(_changed_inputs(clean, moved, name) for name, _ in writes.mlps)
        return Structure(heads, writes, parallel)


def _random_copy(block: nn.Module) -> nn.Module:
    studied = copy.deepcopy(block).cpu().double().eval()
    require_own_functions(studied)
    for module in studied.modules():
        for name in [n for n, v in vars(module).items() if "eps" in n and isinstance(v, float)]:
            setattr(module, name, 1e-6)  # a huge one (models without LayerNorm) makes all heads attend alike
        config: Any = getattr(module, "config", None)
        if hasattr(config, "_experts_implementation"):
            config._experts_implementation = "eager"  # the grouped kernel knows no float64
    for value in studied.parameters():
        value.data = torch.randn_like(value)
        if value.ndim == 1:
            value.data.mul_(0.3).add_(0.7)
        else:
            value.data.mul_(value.shape[-1] ** -0.5)
    return studied


def as_double(arguments: Arguments) -> Arguments:
    """The same arguments in double precision, on the CPU."""

    def widen(_path: tuple[object, ...], value: Tensor) -> Tensor:
        return value.cpu().double() if value.is_floating_point() else value.cpu()

    return changed(arguments, widen)


def _differ(clean: Trace, left: Tensor, right: Tensor) -> bool:
    a, b = clean.per_position(left), clean.per_position(right)
    if a is None or b is None:
        return False
    change, size = (a[:, -1] - b[:, -1]).abs().max(), a[:, -1].abs().max()
    return bool(change > _FIT * size)  # experts round otherwise with other tokens beside them


def _changed_inputs(clean: Trace, moved: Trace, name: str) -> bool:
    pairs = zip(clean.calls[name].inputs, moved.calls[name].inputs, strict=True)
    return any(_differ(clean, a, b) for a, b in pairs)


def _movers(clean: Trace, moved: Trace) -> list[str]:
    """The outermost modules whose output changes at a position whose inputs did not; what is all of a wrapped block
    (DataParallel, checkpointing) puts out what the block does, and is passed over."""
    parts = [name for name in clean.calls if not torch.equal(_flat(clean, name), clean.left.flatten())]
    found: list[str] = []
    for name in sorted(parts, key=lambda name: name.count(".")):
        output_changed = _differ(clean, clean.calls[name].output, moved.calls[name].output)
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if output_changed and not inside and not _changed_inputs(clean, moved, name):
            found.append(name)
    return found


def _with_heads(
    studied: nn.Module, traced: Callable[[Tensor], Trace], clean: Trace, movers: list[str], width: int
) -> tuple[str | None, Heads | None]:
    """The first of the modules that move information which has heads, with these."""
    for name in movers:
        projection = _projection(studied, clean, name, width)
        layout = None if projection is None else _layout(traced, clean, projection, width)
        if projection is not None and layout is not None:
            return name, Heads(projection, layout, _transposed(studied, clean, projection))
    return None, None


def _projection(studied: nn.Module, clean: Trace, attention: str, width: int) -> str | None:
    """The last linear map inside attention."""
    linear = [
        name
        for name, call in clean.calls.items()
        if name.startswith(attention + ".")
        and call.output.shape[-1] == width
        and getattr(studied.get_submodule(name), "weight", torch.empty(0)).ndim == 2
    ]
    return linear[-1] if linear else None


def _transposed(studied: nn.Module, clean: Trace, projection: str) -> bool:
    """Whether the weight is stored as [in, out], by trying: a square weight's shape does not show it."""
    call, module = clean.calls[projection], studied.get_submodule(projection)
    stored: Tensor = module.weight  # type: ignore[assignment]
    bias = getattr(module, "bias", None)
    linear_part = call.output - (0 if bias is None else bias)
    for transposed in (True, False):
        weight = stored.T if transposed else stored
        if weight.shape[0] == call.inputs[0].shape[-1]:
            error = (call.inputs[0] @ weight - linear_part).norm() / linear_part.norm()
            if error < _FIT:
                return transposed
    raise RefusedModel(
        "output projection",
        f"'{projection}' is not input @ weight + bias.",
        "Something else acts on attention's output: merge adapters into the weights (merge_and_unload), remove hooks, "
        "or load the plain model.",
    )


def _layout(traced: Callable[[Tensor], Trace], clean: Trace, projection: str, width: int) -> HeadLayout | None:
    def inputs(hidden: Tensor) -> Tensor:
        return traced(hidden).calls[projection].inputs[0].flatten(0, -2)

    return head_layout(inputs, clean.entered.shape[1], width)


def _flat(clean: Trace, name: str) -> Tensor:
    return clean.calls[name].output.flatten()
