"""Finds the parts of a decoder block by what its modules do rather than by their names.

Weights of a trained or hand-set model may hide structure (a bias of zero, a head that writes nothing), so a
block is studied on a copy with random weights. Three facts decide:

* attention is the module that moves information between positions;
* the output projection is the last linear map inside it, and its input holds the heads side by side (`head_layout.py`);
* what attention and the MLP write are the two outputs whose sum, with multipliers, is what the block adds to
  the residual stream.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from selfrepair.errors import RefusedModel
from selfrepair.model.head_layout import HeadLayout, head_layout
from selfrepair.model.plain_copy import require_own_functions
from selfrepair.model.precision import running
from selfrepair.model.scales import rounded
from selfrepair.model.taps import Arguments
from selfrepair.model.trace import Trace, perturbed, trace

_FIT = 1e-7  # relative; random float64 weights leave rounding far below it and nothing else near it
_ROUNDING = 1e-11  # relative, of multipliers that least squares find in float64


@dataclass(frozen=True)
class Structure:
    """Module paths inside a block, and what could be read from their behaviour.

    Attributes:
        projection: attention's output projection; its input holds all heads' outputs side by side.
        attention_write: the module whose output, times `attention_multiplier`, attention adds to the stream;
            the projection itself, or a norm behind it (Gemma 2, OLMo 2).
        mlp_write: the same for the MLP.
        layout: how heads lie in the projection's input.
        transposed: whether the projection's weight is stored as [width, heads * head_dim] (`nn.Linear`).
        parallel: whether the MLP reads the block's input rather than attention's result.
    """

    projection: str
    attention_write: str
    attention_multiplier: float
    mlp_write: str
    mlp_multiplier: float
    layout: HeadLayout
    transposed: bool
    parallel: bool

    @property
    def normed_after(self) -> bool:
        """Whether attention's write passes through a norm before it is added."""
        return self.attention_write != self.projection


def signature(block: nn.Module) -> tuple[object, ...]:
    """Blocks with equal signatures have equal structure: module classes and parameter shapes by path."""
    modules = tuple((name, type(module).__name__) for name, module in block.named_modules())
    shapes = tuple((name, tuple(value.shape)) for name, value in block.named_parameters())
    return modules + shapes


def find_structure(block: nn.Module, arguments: dict[int, Arguments], width: int) -> Structure:
    """Studies a copy of `block` with random weights.

    Args:
        block: a decoder block.
        arguments: captured arguments of the block in real forwards of 1 window, by number of positions;
            1, 2 and some larger number are needed.
        width: width of the residual stream.

    Raises:
        RefusedModel: where the block is not `input + attention + MLP` with softmax attention heads.
    """
    with running(torch.float64), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        studied = _random_copy(block)
        wide = {positions: _as_double(given) for positions, given in arguments.items()}
        positions = max(wide)
        hidden = torch.randn(1, positions, width, dtype=torch.float64)
        clean = trace(studied, wide[positions], hidden)
        moved = trace(studied, wide[positions], perturbed(hidden))
        attention = _attention(clean, moved)
        projection = _projection(studied, clean, attention, width)
        layout = _heads(studied, wide, projection, width)
        writes = _writes(clean, attention, projection)
        return Structure(
            projection=projection,
            layout=layout,
            transposed=_transposed(studied, clean, projection),
            parallel=not _changed_inputs(clean, moved, writes.mlp_write),
            attention_write=writes.attention_write,
            attention_multiplier=writes.attention_multiplier,
            mlp_write=writes.mlp_write,
            mlp_multiplier=writes.mlp_multiplier,
        )


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


def _as_double(arguments: Arguments) -> Arguments:
    def widen(value: object) -> object:
        if isinstance(value, Tensor):
            return value.cpu().double() if value.is_floating_point() else value.cpu()
        if isinstance(value, tuple):
            return tuple(widen(entry) for entry in value)
        return value

    args, kwargs = arguments
    return tuple(widen(value) for value in args), {name: widen(value) for name, value in kwargs.items()}


def _differ(clean: Trace, left: Tensor, right: Tensor) -> bool:
    a, b = clean.per_position(left), clean.per_position(right)
    return a is not None and b is not None and not torch.equal(a[:, -1], b[:, -1])


def _changed_inputs(clean: Trace, moved: Trace, name: str) -> bool:
    pairs = zip(clean.calls[name].inputs, moved.calls[name].inputs, strict=True)
    return any(_differ(clean, a, b) for a, b in pairs)


def _attention(clean: Trace, moved: Trace) -> str:
    """The outermost module whose output changes at a position whose inputs did not; what is all of a wrapped block
    (DataParallel, checkpointing) puts out what the block does, and is passed over."""
    parts = [name for name in clean.calls if not torch.equal(_flat(clean, name), clean.left.flatten())]
    for name in sorted(parts, key=lambda name: name.count(".")):
        output_changed = _differ(clean, clean.calls[name].output, moved.calls[name].output)
        if output_changed and not _changed_inputs(clean, moved, name):
            return name
    raise RefusedModel(
        "attention",
        "no module of a block moves information between positions.",
        "Only decoders whose every block has softmax attention are supported.",
    )


def _projection(studied: nn.Module, clean: Trace, attention: str, width: int) -> str:
    """The last linear map inside attention."""
    linear = [
        name
        for name, call in clean.calls.items()
        if name.startswith(attention + ".")
        and call.output.shape[-1] == width
        and getattr(studied.get_submodule(name), "weight", torch.empty(0)).ndim == 2
    ]
    if not linear:
        raise RefusedModel(
            "attention",
            f"attention ('{attention}') has no output projection.",
            "A linear map from all heads to the residual stream was expected at its end: give a model whose attention "
            "ends so, without adapters inside it.",
        )
    return linear[-1]


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


def _heads(studied: nn.Module, arguments: dict[int, Arguments], projection: str, width: int) -> HeadLayout:
    def inputs(hidden: Tensor) -> Tensor:
        return trace(studied, arguments[hidden.shape[1]], hidden).calls[projection].inputs[0].flatten(0, -2)

    found = head_layout(inputs, max(arguments), width)
    if found is None:
        raise RefusedModel(
            "heads are weighted means of values",
            f"the input of '{projection}' does not consist of heads, each of them linear in one value per position.",
            "Layers without attention heads are not supported.",
        )
    return found


@dataclass(frozen=True)
class _Writes:
    attention_write: str
    attention_multiplier: float
    mlp_write: str
    mlp_multiplier: float


def _writes(clean: Trace, attention: str, projection: str) -> _Writes:
    """The two outputs that make up what the block adds, with their multipliers, by least squares."""
    added = (clean.left - clean.entered).flatten()
    for attention_write in _behind_projection(clean, projection):
        for mlp_write in _outside(clean, attention, attention_write):
            pair = torch.stack([_flat(clean, attention_write), _flat(clean, mlp_write)], 1)
            fit = torch.linalg.lstsq(pair, added).solution
            if (pair @ fit - added).norm() < _FIT * added.norm():
                multipliers = [rounded(float(value), _ROUNDING) for value in fit]
                return _Writes(attention_write, multipliers[0], mlp_write, multipliers[1])
    raise RefusedModel(
        "residual sum",
        "a block's output is not its input plus what attention and the MLP write.",
        "Post-norm trunks (OPT-350m, the original BERT layout) and several residual streams are not supported.",
    )


def _flat(clean: Trace, name: str) -> Tensor:
    return clean.calls[name].output.flatten()


def _behind_projection(clean: Trace, projection: str) -> Iterator[str]:
    """The projection, then modules that read its output (norms behind it)."""
    yield projection
    written = _flat(clean, projection)
    for name, call in clean.calls.items():
        if call.inputs and call.output.numel() == written.numel() and torch.equal(call.inputs[0].flatten(), written):
            yield name


def _outside(clean: Trace, attention: str, attention_write: str) -> list[str]:
    names = [
        name
        for name, call in clean.calls.items()
        if not f"{name}.".startswith(attention + ".")
        and name != attention_write
        and call.output.numel() == clean.entered.numel()
    ]
    return sorted(names, key=lambda name: name.count("."))  # 'mlp' rather than 'mlp.down_proj'
