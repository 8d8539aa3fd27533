"""Reading and replacing tensors inside a module's forward, with hooks that remove themselves and nobody else's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

Key = TypeVar("Key")
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def first_tensor(value: Any) -> Tensor:
    """A module's main output: the tensor itself, or the first entry of a tuple."""
    tensor: Tensor = value[0] if isinstance(value, tuple | list) else value
    return tensor


def main_argument(arguments: Arguments) -> Any:
    """A module's first positional argument, else the one called `hidden_states`, else the first of all."""
    args, kwargs = arguments
    return args[0] if args else kwargs.get("hidden_states", next(iter(kwargs.values()), None))


def main_input(arguments: Arguments) -> Tensor:
    """The hidden states among a module's arguments."""
    value = main_argument(arguments)
    if not isinstance(value, Tensor):
        raise TypeError(f"expected hidden states as a tensor, got {type(value).__name__}")
    return value


def with_input(arguments: Arguments, value: Tensor) -> Arguments:
    """The same arguments with other hidden states."""
    args, kwargs = arguments
    if args:
        return (value, *args[1:]), kwargs
    name = "hidden_states" if "hidden_states" in kwargs else next(iter(kwargs))
    return args, {**kwargs, name: value}


def keeping(store: dict[Key, Tensor], key: Key, shape: tuple[int, ...] | None = None) -> Callable[[Tensor], None]:
    """A reader that puts a copy of what it is given into `store`.

    Args:
        store: where to.
        key: under which key.
        shape: brings the tensor into this shape: OPT and routers fold windows and positions into one axis.
    """

    def keep(value: Tensor) -> None:
        store[key] = (value if shape is None else value.reshape(shape)).clone()

    return keep


@contextmanager
def removing(*handles: Any) -> Iterator[None]:
    """Removes the given hook handles at the end, whatever happens."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield


def on_output(module: nn.Module, read: Callable[[Tensor], Tensor | None]) -> Any:
    """Calls `read` with the module's main output; what it returns, if anything, takes the output's place.

    The tensor may be changed in place afterwards (Falcon adds attention's output into the MLP's): `read`
    must use it at once or copy it. Returns the hook's handle.
    """

    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        replaced = read(first_tensor(output))
        if replaced is None or isinstance(output, Tensor):
            return replaced
        return type(output)((replaced, *output[1:]))

    return module.register_forward_hook(hook)


def on_input(module: nn.Module, read: Callable[[Tensor], Tensor | None]) -> Any:
    """Calls `read` with the module's main input; what it returns, if anything, takes the input's place."""

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        replaced = read(main_input((args, kwargs)))
        return None if replaced is None else with_input((args, kwargs), replaced)

    return module.register_forward_pre_hook(hook, with_kwargs=True)


def on_call(module: nn.Module, read: Callable[[Arguments], None]) -> Any:
    """Calls `read` with all of a module's arguments."""

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        read((args, kwargs))

    return module.register_forward_pre_hook(hook, with_kwargs=True)


@dataclass(frozen=True)
class Place:
    """A module's input or output that is made of equal parts, such as heads or neurons.

    Attributes:
        module: the module whose input or output it is.
        is_input: whether it is the input.
        entries: how many parts the tensor has.
        size: width of each.
        constant: what each entry holds whatever the block reads [entry, size], left out when the tensor is split; None
            for nothing.
    """

    module: nn.Module
    is_input: bool
    entries: int
    size: int
    constant: Tensor | None = None

    def split(self, value: Tensor) -> Tensor:
        """The entries [..., entry, size] of the module's tensor [..., entries * size], constants left out."""
        parts = value.reshape(*value.shape[:-1], self.entries, self.size)
        return parts if self.constant is None else parts - self.constant

    def join(self, outputs: Tensor) -> Tensor:
        """The module's tensor [..., entries * size] from its entries."""
        return (outputs if self.constant is None else outputs + self.constant).flatten(-2)

    def changed(self, value: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """The module's tensor with other entries; where these are as they were, it stays as it is, bit for bit.

        Args:
            value: the module's tensor, of any shape.
            before: its entries [..., position, entry, size].
            after: what they are to be.
        """
        same = (before == after).flatten(-2).reshape(value.shape)
        return value.where(same, self.join(after).reshape(value.shape)).contiguous()

    def put(self, value: Tensor, outputs: Mapping[int, Tensor]) -> Tensor:
        """The module's tensor [..., entries * size] with other outputs, by entry [..., size]; the rest of it stays as
        it is, bit for bit."""
        parts = value.reshape(*value.shape[:-1], self.entries, self.size).clone()
        for entry, output in outputs.items():
            parts[..., entry, :] = output if self.constant is None else output + self.constant[entry]
        return parts.flatten(-2)

    def tap(self, read: Callable[[Tensor], Tensor | None]) -> Any:
        """A hook that calls `read` with the module's tensor; what it returns, if anything, takes its place."""
        return (on_input if self.is_input else on_output)(self.module, read)
