"""How a difference passes an operation: exact rules where there are any, `f(clean + difference) - f(clean)` elsewhere.

Differences have an axis of ablated runs in front: [run, *shape of the clean value]. `None` stands for a difference
that is zero everywhere, and costs nothing. All rules give exactly zero where the differences are exactly zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from selfrepair.effects.readouts import Reading
from selfrepair.engine.delta.matmul import Precision, Prepared
from selfrepair.engine.delta.tape import Operation, Ref

Difference = Tensor | None


class Values(Protocol):
    """Where rules take clean values and weights from."""

    @property
    def precision(self) -> Precision:
        """How differences are multiplied with weights."""
        ...

    def clean(self, index: int) -> Tensor:
        """The clean value of that number."""
        ...

    def prepared(self, index: int, transposed: bool) -> Prepared:
        """A constant of the tape as a low-precision weight."""
        ...

    def is_weight(self, index: int) -> bool:
        """Whether the value is a parameter of the model."""
        ...

    def direction(self, name: str) -> Tensor:
        """A direction that writes are read along; see `probes`."""
        ...

    @property
    def reading(self) -> Reading:
        """What is measured, and where."""
        ...

    @property
    def shape(self) -> torch.Size:
        """(windows, positions)."""
        ...


@dataclass(frozen=True)
class Call:
    """An operation that a difference is about to pass.

    Attributes:
        operation: from the tape.
        values: clean values and weights.
        differences: by number of the value; those that are not here are zero.
        runs: how many ablated runs.
    """

    operation: Operation
    values: Values
    differences: dict[int, Tensor]
    runs: int

    @property
    def moving(self) -> list[int]:
        """Numbers of the arguments with a difference, each once."""
        return [i for i in dict.fromkeys(self.operation.inputs) if i in self.differences]

    def difference(self, argument: Any) -> Difference:
        """The difference of an argument, None where it is zero."""
        return self.differences.get(argument.index) if isinstance(argument, Ref) else None

    def clean(self, argument: Any) -> Tensor:
        """An argument's clean value; the argument itself where it is a number, which does as a tensor does."""
        value: Tensor = self.values.clean(argument.index) if isinstance(argument, Ref) else argument
        return value

    def full(self, argument: Any) -> Tensor:
        """Clean value plus difference, [run, ...]."""
        difference = self.difference(argument)
        clean = self.clean(argument)
        return clean if difference is None else clean + difference

    def folded(self, argument: Any) -> Tensor:
        """Clean value plus difference of an argument that moves, runs folded into the batch."""
        return self.full(argument).flatten(0, 1)

    def output(self, which: int = 0) -> Tensor:
        """The operation's clean result."""
        return self.values.clean(self.operation.outputs[which])

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or name."""
        operation = self.operation
        if position < len(operation.args):
            return operation.args[position]
        return operation.kwargs.get(name, default)


Moved = Tensor | tuple[Tensor, ...]
Rule = Callable[[Call], Moved]


def apply(call: Call) -> tuple[Tensor, ...]:
    """The differences of an operation's results, [run, *shape] each."""
    rule = RULES.get(call.operation.name, secant)
    found = rule(call)
    return found if isinstance(found, tuple) else (found,)


def lifted(difference: Tensor, rank: int) -> Tensor:
    """A difference of a value of fewer axes, with ones put in behind the runs: it broadcasts as the value does."""
    missing = rank + 1 - difference.ndim
    return difference.reshape(difference.shape[0], *[1] * missing, *difference.shape[1:]) if missing else difference


def _rank(call: Call, *arguments: Any) -> int:
    return max(call.values.clean(a.index).ndim for a in arguments if isinstance(a, Ref))


# sums and products


def add(call: Call) -> Tensor:
    """`a + alpha b`: differences add."""
    alpha = call.operation.kwargs.get("alpha", 1)
    return _sum(call, call.operation.args[0], call.operation.args[1], alpha)


def subtract(call: Call) -> Tensor:
    """`a - alpha b`."""
    alpha = call.operation.kwargs.get("alpha", 1)
    return _sum(call, call.operation.args[0], call.operation.args[1], -alpha)


def subtract_from(call: Call) -> Tensor:
    """`b - a`, as `a.__rsub__(b)`."""
    return _sum(call, call.operation.args[1], call.operation.args[0], -1)


def _sum(call: Call, first: Any, second: Any, factor: float) -> Tensor:
    rank = _rank(call, first, second)
    left, right = call.difference(first), call.difference(second)
    if right is None:
        assert left is not None
        return lifted(left, rank)
    scaled = lifted(right, rank) if factor == 1 else factor * lifted(right, rank)
    return scaled if left is None else lifted(left, rank) + scaled


def multiply(call: Call) -> Tensor:
    """`a' b' - a b = a db + da b'`."""
    first, second = call.operation.args[:2]
    rank = _rank(call, first, second)
    left, right = call.difference(first), call.difference(second)
    if right is None:
        assert left is not None
        return lifted(left, rank) * call.clean(second)
    right = lifted(right, rank)
    if left is None:
        return right * call.clean(first)
    return call.clean(first) * right + lifted(left, rank) * (call.clean(second) + right)


def divide(call: Call) -> Tensor:
    """`a / b` with constant `b`; otherwise the secant rule."""
    first, second = call.operation.args[:2]
    difference = call.difference(first)
    if difference is None or call.difference(second) is not None or call.operation.kwargs:
        return secant_elementwise(call)
    return lifted(difference, _rank(call, first, second)) / call.clean(second)


def negate(call: Call) -> Tensor:
    """`-a`."""
    difference = call.difference(call.operation.args[0])
    assert difference is not None
    return -difference


def power(call: Call) -> Tensor:
    """`(c + d)^2 - c^2 = d (2 c + d)`; other powers by the secant rule."""
    base, exponent = call.operation.args[0], call.argument(1, "exponent", 2)
    difference = call.difference(base)
    if exponent != 2 or difference is None:
        return secant_elementwise(call)
    return difference * (2 * call.clean(base) + difference)


# products with weights


def linear(call: Call) -> Moved:
    """`x W^T + b`: the bias cancels, and one product at low precision is left."""
    source, weight = call.argument(0, "input"), call.argument(1, "weight")
    difference = call.difference(source)
    if difference is None or call.difference(weight) is not None:
        return secant(call)
    return _product(call, difference, weight, transposed=True)


def affine(call: Call) -> Moved:
    """`torch.addmm(bias, x, W)`, as GPT-2's `Conv1D` calls it."""
    bias, source, weight = (call.argument(i, name) for i, name in enumerate(("input", "mat1", "mat2")))
    difference, scaled = call.difference(source), {"beta", "alpha"} & set(call.operation.kwargs)
    if scaled or difference is None or call.difference(weight) is not None or call.difference(bias) is not None:
        return secant(call)
    return _product(call, difference, weight, transposed=False)


def matrix_product(call: Call) -> Moved:
    """`x W` with a weight as `linear`; of two activations by the secant rule, which takes one product, not two."""
    first, second = call.operation.args[:2]
    difference = call.difference(first)
    if difference is None or call.difference(second) is not None or call.operation.kwargs:
        return secant(call)
    if isinstance(second, Ref) and call.values.is_weight(second.index) and call.clean(second).ndim == 2:
        return _product(call, difference, second, transposed=False)
    return torch.matmul(lifted(difference, _rank(call, first, second)), call.clean(second))


def _product(call: Call, difference: Tensor, weight: Ref, transposed: bool) -> Tensor:
    return call.values.precision.product(difference, call.values.prepared(weight.index, transposed))


# norms


def layer_norm(call: Call) -> Moved:
    """LayerNorm over the last axis: see `_normed`."""
    shape, weight = call.argument(1, "normalized_shape"), call.argument(2, "weight")
    return _normed(call, len(shape), weight, call.argument(4, "eps", 1e-5), centred=True)


def rms_norm(call: Call) -> Moved:
    """`F.rms_norm` over the last axis: see `_normed`."""
    shape, weight = call.argument(1, "normalized_shape"), call.argument(2, "weight")
    eps = call.argument(3, "eps")
    clean = call.clean(call.argument(0, "input"))
    eps = torch.finfo(clean.dtype).eps if eps is None else eps
    return _normed(call, len(shape), weight, eps, centred=False)


def _normed(call: Call, axes: int, weight: Any, eps: float, centred: bool) -> Moved:
    """With `r = 1/s`: `gain (P d r' + P c (r' - r))`, and `r' - r` from the change of `s^2`, free of cancellation."""
    source = call.argument(0, "input")
    difference = call.difference(source)
    if axes != 1 or difference is None:
        return secant(call)
    clean = call.clean(source)
    if centred:
        clean = clean - clean.mean(-1, keepdim=True)
        difference = difference - difference.mean(-1, keepdim=True)
    square = clean.square().mean(-1, keepdim=True) + eps
    change = (difference * (2 * clean + difference)).mean(-1, keepdim=True)
    inverse = square.rsqrt()
    shifted = (square + change).clamp_min(eps).rsqrt()
    normed = difference * shifted + clean * _change_of_rsqrt(change, inverse, shifted)
    return normed if call.clean(weight) is None else normed * call.clean(weight)


def reciprocal_root(call: Call) -> Tensor:
    """`rsqrt`: `-d r^2 r'^2 / (r + r')`."""
    source = call.operation.args[0]
    difference = call.difference(source)
    assert difference is not None
    return _change_of_rsqrt(difference, call.output(), call.full(source).rsqrt())


def _change_of_rsqrt(change: Tensor, inverse: Tensor, shifted: Tensor) -> Tensor:
    """`1/sqrt(a + change) - 1/sqrt(a)` from both terms, without subtracting them."""
    return -change * (inverse * shifted).square() / (inverse + shifted)


# attention


def attention(call: Call) -> Tensor:
    """`F.scaled_dot_product_attention`, by the secant rule, runs folded into the batch: the fused kernel stays."""
    arguments = call.operation.args
    named = call.operation.kwargs
    runs, output = call.runs, call.output()
    batch = output.shape[0]

    def folded(argument: Any) -> Any:
        if not isinstance(argument, Ref):
            return argument
        if call.difference(argument) is not None:
            return call.folded(argument)
        clean = call.clean(argument)
        if clean.ndim < output.ndim or clean.shape[0] != batch or batch == 1:
            return clean  # a mask for all windows
        return clean.expand(runs, *clean.shape).flatten(0, 1)

    given = [folded(argument) for argument in arguments]
    if batch == 1:  # queries, keys and values that do not move have to be as many as those that do
        given[:3] = [g.expand(runs, *g.shape[1:]) for g in given[:3]]
    found = call.operation.func(*given, **{name: folded(argument) for name, argument in named.items()})
    full: Tensor = found.reshape(runs, *output.shape)
    return full - output


# the secant rule


def secant(call: Call) -> Moved:
    """`f(clean + difference) - f(clean)`, run by run: true of every function."""
    moving = _runs_that_move(call)
    return tuple(_where_moving(moving, found) for found in _secant(call))


def _secant(call: Call) -> tuple[Tensor, ...]:
    """The secant rule as it is rounded: a rule that uses it says where it is exactly zero."""
    full = {i: call.values.clean(i) + call.differences[i] for i in call.moving}
    found = _run_by_run(call, full, call.values.clean)
    return tuple(value - call.output(i) for i, value in enumerate(found))


def _runs_that_move(call: Call) -> Tensor:
    """Whether anything differs in each run, [run]."""
    return torch.stack([(call.differences[i] != 0).flatten(1).any(1) for i in call.moving]).any(0)


def _where_moving(moving: Tensor, found: Tensor) -> Tensor:
    """Zero in runs that stand still: a function may round otherwise where it is given more runs at once."""
    return torch.where(moving.reshape(-1, *[1] * (found.ndim - 1)), found, torch.zeros_like(found))


def _run_by_run(call: Call, moving: dict[int, Tensor], standing: Callable[[int], Tensor]) -> tuple[Tensor, ...]:
    """The function's results for every run.

    Args:
        call: whose function.
        moving: by number, what it is given in each run, [run, ...].
        standing: what it is given of all other values, the same in each run.
    """
    operation = call.operation

    def function(*of_run: Tensor) -> tuple[Tensor, ...]:
        held = dict(zip(moving, of_run, strict=True))

        def value(leaf: Any) -> Any:
            if not isinstance(leaf, Ref):
                return leaf
            return held[leaf.index] if leaf.index in held else standing(leaf.index)

        args, kwargs = tree_map(value, (operation.args, operation.kwargs), is_leaf=_is_ref)
        return _tensors(operation.func(*args, **kwargs))

    return tuple(torch.vmap(function)(*moving.values()))


def secant_elementwise(call: Call) -> Tensor:
    """The secant rule for functions of one number, exactly zero where the difference is."""
    (found,) = _secant(call)
    still = None
    for index in call.moving:
        zero = lifted(call.differences[index], found.ndim - 1) == 0
        still = zero if still is None else still & zero
    assert still is not None
    return torch.where(still, torch.zeros((), dtype=found.dtype, device=found.device), found)


def secant_rows(call: Call) -> Tensor:
    """The secant rule for softmax, exactly zero where nothing in a row moves."""
    (found,) = _secant(call)
    source = call.operation.args[0]
    difference = call.difference(source)
    assert difference is not None
    axis = call.argument(1, "dim", -1)
    axis = axis % call.output().ndim + 1
    still = (difference == 0).all(axis, keepdim=True)
    return torch.where(still, torch.zeros((), dtype=found.dtype, device=found.device), found)


def opaque(call: Call) -> tuple[Tensor, ...]:
    """A whole module by the secant rule, runs folded into the batch: routers and whatever else is discrete.

    Run by run where it is also given a tensor that does not move (token ids, a mask): which axis of that counts
    windows, and would have to be repeated, cannot be told for sure.
    """

    def difference(full: Tensor, which: int) -> Tensor:
        clean = call.output(which)
        return _where_moving(moving, full.reshape(call.runs, *clean.shape) - clean)

    moving = _runs_that_move(call)
    found = _one_by_one(call) if _stands_beside(call) else _called(call, call.folded)
    return tuple(difference(full, i) if full.is_floating_point() else full for i, full in enumerate(found))


def _stands_beside(call: Call) -> bool:
    """Whether an argument that does not move is more than a number."""
    return any(call.values.clean(i).ndim for i in call.operation.inputs if i not in call.differences)


def _one_by_one(call: Call) -> tuple[Tensor, ...]:
    """A module's results for every run, one run after the other, [run, ...] each."""
    runs = [_called(call, partial(_of_run, call, run)) for run in range(call.runs)]
    return tuple(torch.stack(results) for results in zip(*runs, strict=True))


def _of_run(call: Call, run: int, argument: Any) -> Tensor:
    return call.full(argument)[run]


def _called(call: Call, moved: Callable[[Any], Tensor]) -> tuple[Tensor, ...]:
    """What the operation's function puts out, given `moved` of the arguments that move and all others as they are."""

    def value(argument: Any) -> Any:
        return call.clean(argument) if call.difference(argument) is None else moved(argument)

    operation = call.operation
    args, kwargs = tree_map(value, (operation.args, operation.kwargs), is_leaf=_is_ref)
    return _tensors(operation.func(*args, **kwargs))


# functions that are linear in what moves, and act on every run alone


def structural(call: Call) -> tuple[Tensor, ...]:
    """Views, copies, sums over axes: the function itself, on the difference. What does not move counts as zero."""

    def standing(index: int) -> Tensor:
        clean = call.values.clean(index)
        return torch.zeros_like(clean) if clean.is_floating_point() else clean

    return _run_by_run(call, {i: call.differences[i] for i in call.moving}, standing)


def shaped(call: Call) -> Tensor:
    """`view`, `reshape`: the clean result's shape, whatever way the difference lies in memory."""
    difference = call.difference(call.argument(0, "input"))
    assert difference is not None
    return difference.reshape(difference.shape[0], *call.output().shape)


def same(call: Call) -> Tensor:
    """Copies, and dropout at inference."""
    difference = call.difference(call.argument(0, "input"))
    assert difference is not None
    return difference


def masked_fill(call: Call) -> Tensor:
    """Constants are written where the mask is: no difference is left there."""
    source, mask = call.operation.args[0], call.argument(1, "mask")
    difference = call.difference(source)
    if difference is None or call.difference(call.argument(2, "value")) is not None:
        return secant_elementwise(call)
    return difference.masked_fill(call.clean(mask), 0.0)


def _is_ref(leaf: Any) -> bool:
    return isinstance(leaf, Ref)


def _tensors(result: Any) -> tuple[Tensor, ...]:
    return tuple(leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor))


_STRUCTURAL = (
    "transpose permute unsqueeze squeeze getitem chunk split tensor_split split_with_sizes unbind unflatten "
    "expand expand_as to float double type type_as mean sum narrow select index_select repeat repeat_interleave "
    "swapaxes movedim moveaxis roll stack cat concat concatenate flip cumsum t"
)
_ELEMENTWISE = "gelu silu relu relu6 tanh sigmoid exp erf sqrt leaky_relu hardtanh mish softplus log1p clamp abs"


def _rules() -> Iterator[tuple[str, Rule]]:
    yield from dict.fromkeys(_STRUCTURAL.split(), structural).items()
    yield from dict.fromkeys(_ELEMENTWISE.split(), secant_elementwise).items()
    yield from {
        **dict.fromkeys(("view", "reshape", "flatten", "view_as", "reshape_as"), shaped),
        **dict.fromkeys(("contiguous", "clone", "detach", "alias", "dropout", "feature_dropout"), same),
        **dict.fromkeys(("add", "radd"), add),
        **dict.fromkeys(("sub", "subtract"), subtract),
        **dict.fromkeys(("rsub",), subtract_from),
        **dict.fromkeys(("mul", "rmul", "multiply"), multiply),
        **dict.fromkeys(("div", "truediv", "divide"), divide),
        **dict.fromkeys(("pow", "square"), power),
        **dict.fromkeys(("neg", "negative"), negate),
        **dict.fromkeys(("matmul", "bmm", "mm"), matrix_product),
        "masked_fill": masked_fill,
        "linear": linear,
        "addmm": affine,
        "layer_norm": layer_norm,
        "rms_norm": rms_norm,
        "rsqrt": reciprocal_root,
        "softmax": secant_rows,
        "scaled_dot_product_attention": attention,
        "opaque": opaque,
    }.items()


RULES: dict[str, Rule] = dict(_rules())
"""By the function's name; `secant` for all others."""
