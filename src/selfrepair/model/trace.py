"""Traces: one forward of a block, with every module's inputs and main output recorded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from selfrepair.model.taps import Arguments, first_tensor, removing, with_input


@dataclass(frozen=True)
class ModuleCall:
    """One module's call: `inputs` are all tensors among its arguments, `output` its main output."""

    name: str
    inputs: tuple[Tensor, ...]
    output: Tensor


@dataclass(frozen=True)
class Trace:
    """A block's forward: its input and output [window, position, width], its modules' calls in order of ending.

    Modules called more than once (Phi's shared dropout) are left out: they cannot serve as taps.
    """

    entered: Tensor
    left: Tensor
    calls: dict[str, ModuleCall]

    def per_position(self, tensor: Tensor) -> Tensor | None:
        """The tensor as [window, position, ...] or None where it has no position axis.

        OPT and routers of experts flatten windows and positions into one axis.
        """
        windows, positions = self.entered.shape[:2]
        if tensor.ndim >= 2 and tensor.shape[:2] == (windows, positions):
            return tensor
        if tensor.ndim >= 2 and tensor.shape[0] == windows * positions:
            return tensor.reshape(windows, positions, *tensor.shape[1:])
        return None


def trace(block: nn.Module, arguments: Arguments, hidden: Tensor) -> Trace:
    """Runs `block` on `hidden` with the other arguments as captured, and records its modules' calls."""
    calls: list[ModuleCall] = []
    inputs: dict[str, list[tuple[Tensor, ...]]] = {}

    def enter(name: str, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        tensors = tuple(v.clone() for v in (*args, *kwargs.values()) if isinstance(v, Tensor))
        inputs.setdefault(name, []).append(tensors)

    def leave(name: str, output: object) -> None:
        tensor = first_tensor(output)
        if isinstance(tensor, Tensor):
            calls.append(ModuleCall(name, inputs[name].pop(), tensor.clone()))

    handles = []
    for name, module in block.named_modules():
        if name:
            handles.append(
                module.register_forward_pre_hook(
                    lambda _m, args, kwargs, name=name: enter(name, args, kwargs), with_kwargs=True
                )
            )
            handles.append(module.register_forward_hook(lambda _m, _a, output, name=name: leave(name, output)))
    with removing(*handles):
        args, kwargs = with_input(arguments, hidden)
        left = first_tensor(block(*args, **kwargs))
    counts = Counter(call.name for call in calls)
    once = {call.name: call for call in calls if counts[call.name] == 1}
    return Trace(hidden, left.reshape(hidden.shape), once)


def perturbed(hidden: Tensor) -> Tensor:
    """Other hidden states at every position but the last: what moves information shows at the last."""
    noise = torch.randn_like(hidden)
    noise[:, -1] = 0
    return hidden + noise
