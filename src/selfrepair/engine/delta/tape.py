"""Tapes: all operations that a block computes from its input, with every value on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from selfrepair.engine.delta.functions import EMPTY, FILLED, UNSEEN, in_place, out_of_place, passes_choices, settles


@dataclass(frozen=True)
class Ref:
    """Stands for a tensor in an operation's arguments: the number of its value on the tape."""

    index: int


@dataclass(frozen=True)
class Operation:
    """One call: `values[outputs] = func(*args, **kwargs)`, tensors in the arguments replaced by `Ref`s."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[int, ...]

    @cached_property
    def name(self) -> str:
        """The function's name without underscores: `add` for `Tensor.__add__`, `add_` and `torch.add`."""
        return "opaque" if isinstance(self.func, nn.Module) else self.func.__name__.strip("_")

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        """Numbers of all values in the arguments."""
        leaves = tree_flatten((self.args, self.kwargs))[0]
        return tuple(leaf.index for leaf in leaves if isinstance(leaf, Ref))


@dataclass
class Tape:
    """Operations that depend on the block's input, in order, and the clean value of everything they touch.

    Attributes:
        operations: operations in the order of their calls.
        values: values by number. Value 0 is the block's input; values that no operation put out are constants.
        active: whether a value depends on the block's input.
        jumping: numbers of values that do and may jump, of which no difference but the ablated run's own value is
            carried: choices (indices, masks) that a module made which is taken as one operation, and what is computed
            with them, up to a softmax. A score that is masked in one run and not in another differs by 1e30 or so,
            beside which nothing is left of the score.
        marks: numbers of the values that were asked for by name.
    """

    operations: list[Operation] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    active: list[bool] = field(default_factory=list)
    jumping: set[int] = field(default_factory=set)
    marks: dict[str, int] = field(default_factory=dict)

    def signature(self) -> str:
        """Equal for tapes that one program serves: same operations, shapes and numbers, other weights."""
        calls = [
            f"{op.func.__class__.__name__ if isinstance(op.func, nn.Module) else op.func} {op.args} {op.kwargs}"
            for op in self.operations
        ]
        shapes = [f"{tuple(value.shape)}{value.dtype}{on}" for value, on in zip(self.values, self.active, strict=True)]
        return "\n".join([*calls, *shapes, str(sorted(self.marks.items()))])


class DiscreteStep(Exception):
    """An operation whose result does not move with its input (an index, a comparison): no difference passes it.

    Attributes:
        stack: modules inside which it was called, outermost first.
    """

    def __init__(self, name: str, stack: tuple[nn.Module, ...]) -> None:
        super().__init__(name)
        self.stack = stack


class Recorder(TorchFunctionMode):
    """Records every operation on tensors that depend on the block's input.

    Args:
        source: the block's input.
        opaque: modules that are recorded as one operation, whatever they do inside.
        choosing: whether indices that functions choose (of the largest entries) are followed as well as those that
            such modules choose.
    """

    def __init__(self, source: Tensor, opaque: Iterable[nn.Module] = (), choosing: bool = False) -> None:
        super().__init__()
        self._choosing = choosing
        self.tape = Tape()
        self._numbers: dict[int, int] = {}
        self._alive: list[Tensor] = []  # so that no other tensor takes over an `id`
        self._opaque = list(opaque)
        self._stale: set[int] = set()
        self._depth = 0
        self._stack: list[nn.Module] = []
        self._register(source, active=True)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._depth:
            return func(*args, **kwargs)
        given = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        active = any(self._is_active(tensor) for tensor in given)
        name = getattr(func, "__name__", "")
        if name in EMPTY:
            return self._constant(func(*args, **kwargs))
        choices = [tensor for tensor in given if self._is_active(tensor) and not _is_continuous(tensor)]
        if choices:
            if not all(map(self._jumps, choices)) or not passes_choices(name, args):
                raise DiscreteStep(name or "a choice", tuple(self._stack))  # which experts, say
            if name in FILLED:
                return self._constant(func(*args, **kwargs))
        if active and name == "copy_":
            return self._copy_into(args[0], args[1])
        if active and in_place(func):
            pure = out_of_place(func)
            if pure is None:
                raise DiscreteStep(name, ())
            result = pure(*args, **kwargs)
            self._record(pure, args, kwargs, result)
            self._overwrite(args[0], result)
            return args[0]
        if active and name in UNSEEN:
            raise DiscreteStep(name, tuple(self._stack))
        result = func(*args, **kwargs)
        if active:
            self._record(func, args, kwargs, result)
        return result

    def _constant(self, made: Tensor) -> Tensor:
        """A tensor whose value does not depend on the block's input."""
        self._register(made, active=False)
        return made

    def number(self, tensor: Tensor) -> int:
        """The number of a value on the tape.

        Raises:
            LookupError: the tape never saw it.
        """
        if id(tensor) not in self._numbers:
            raise LookupError("a value that no recorded operation put out")
        return self._numbers[id(tensor)]

    @contextmanager
    def watching(self, block: nn.Module) -> Iterator[None]:
        """Keeps the stack of modules, and takes opaque ones as one operation."""
        with ExitStack() as handles:
            for module in block.modules():
                if module is block:
                    continue
                enter = module.register_forward_pre_hook(self._enter, with_kwargs=True)
                leave = module.register_forward_hook(self._leave, with_kwargs=True)
                handles.callback(enter.remove)
                handles.callback(leave.remove)
            yield

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._stack.append(module)
        self._depth += any(module is known for known in self._opaque)

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self._stack.pop()
        if any(module is known for known in self._opaque):
            self._depth -= 1
            if not self._depth:
                self._record(module, args, kwargs, output)

    def _overwrite(self, target: Tensor, result: Tensor) -> None:
        """Does in place what the block wanted done in place; values from before stay on the tape.

        Other tensors of the same memory change with it, in ways that the tape does not know of: see `_known`.
        """
        memory = target.untyped_storage().data_ptr()
        for tensor in self._alive:
            number = self._numbers[id(tensor)]
            if self.tape.values[number].untyped_storage().data_ptr() == memory:
                self.tape.values[number] = self.tape.values[number].clone()
            if tensor is not target and tensor.untyped_storage().data_ptr() == memory:
                self._stale.add(id(tensor))
        target.copy_(result)
        self._numbers[id(target)] = self._numbers[id(result)]

    def _copy_into(self, target: Tensor, source: Tensor) -> Tensor:
        """Does `target.copy_(source)` where `target` is a view of a tensor on the tape, or that tensor."""
        memory = target.untyped_storage()
        whole = next((tensor for tensor in self._alive if _is_all_of(tensor, memory)), None)
        if whole is None or whole.dtype != target.dtype:
            raise DiscreteStep("copy_", tuple(self._stack))
        size, stride, offset = target.size(), target.stride(), int(target.storage_offset())
        result = written(whole, source, size, stride, offset)
        self._record(written, (whole, source, size, stride, offset), {}, result)
        self._overwrite(whole, result)
        return target

    def _is_active(self, tensor: Tensor) -> bool:
        number = self._numbers.get(id(tensor))
        return number is not None and self.tape.active[number]

    def _jumps(self, tensor: Tensor) -> bool:
        return self._numbers.get(id(tensor)) in self.tape.jumping

    def _register(self, tensor: Tensor, active: bool) -> int:
        self.tape.values.append(tensor)
        self.tape.active.append(active)
        self._alive.append(tensor)
        self._numbers[id(tensor)] = len(self.tape.values) - 1
        return self._numbers[id(tensor)]

    def _known(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if id(leaf) in self._stale:
            raise DiscreteStep("a tensor that was changed through another", tuple(self._stack))
        number = self._numbers.get(id(leaf))
        return Ref(self._register(leaf, active=False) if number is None else number)

    def _record(self, func: Callable[..., Any], args: Any, kwargs: Any, result: Any) -> None:
        leaves = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]
        if not leaves:
            return
        opaque = isinstance(func, nn.Module)
        jumps = any(self._jumps(leaf) for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor))
        continuous = [_is_continuous(leaf) for leaf in leaves]
        if not opaque and not jumps and not any(continuous):
            raise DiscreteStep(func.__name__, tuple(self._stack))
        settled = opaque or settles(func.__name__)
        chooses = opaque or (self._choosing and func.__name__ == "topk")
        args, kwargs = tree_map(self._known, (tuple(args), dict(kwargs)))
        outputs = tuple(self._register(leaf, active=True) for leaf in leaves)  # indices of a maximum move as well
        self.tape.operations.append(Operation(func, args, kwargs, outputs))
        for number, moves in zip(outputs, continuous, strict=True):
            if (jumps and not settled) or (chooses and not moves):
                self.tape.jumping.add(number)


def written(whole: Tensor, part: Tensor, size: torch.Size, stride: tuple[int, ...], offset: int) -> Tensor:
    """`whole` with `part` in the place of a view of it, which is given by its size, strides and offset."""
    filled = whole.clone(memory_format=torch.contiguous_format)
    filled.as_strided(size, stride, offset).copy_(part)
    return filled


def _is_all_of(tensor: Tensor, memory: torch.UntypedStorage) -> bool:
    """Whether a tensor is all of some memory, in order."""
    own = tensor.untyped_storage()
    whole = tensor.is_contiguous() and tensor.numel() * tensor.element_size() == memory.nbytes()
    return whole and own.data_ptr() == memory.data_ptr()


def _is_continuous(tensor: Tensor) -> bool:
    """Whether a tensor's values move with a block's input, rather than jump."""
    return tensor.is_floating_point() or tensor.is_complex()
