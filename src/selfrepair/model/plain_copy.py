"""Copies of model objects that are compiled in part, or return tuples; the copies share their weights.

Compiled code calls none of the hooks by which parts are found and effects are read, and a compiled `forward` that a
module keeps for itself goes on to run the module it was made for, in copies as well. The copy runs the same modules'
eager code on the same tensors, and the user's object stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

from torch import nn

from selfrepair.errors import RefusedModel


def plain_copy(network: Any) -> Any:
    """The network itself, or a copy that shares its weights, runs eagerly and names the parts of what it returns.

    Args:
        network: a model; or what `torch.compile` made of one.

    Raises:
        RefusedModel: some function of it stays bound to the object that it was made for.
    """
    while _wrapped(network) is not None:
        network = _wrapped(network)
    modules = list(network.modules())
    if not any(_is_compiled(module) for module in modules) and not any(map(_returns_tuples, modules)):
        return network
    memo: dict[int, Any] = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    for module in reversed(modules):  # inner ones first
        if _wrapped(module) is not None:
            memo[id(module)] = copy.deepcopy(_wrapped(module), memo)
    made = copy.deepcopy(network, memo)
    for module in modules:
        _run_eagerly(memo[id(module)], memo)
    for module in filter(_returns_tuples, made.modules()):
        module.config.return_dict = True
    require_own_functions(made)
    return made


def require_own_functions(made: nn.Module) -> None:
    """Refuses a copy with functions that go on to run the modules it was copied from.

    Copying takes methods and `partial`s along, with what they are bound to; it leaves closures as they are.

    Args:
        made: the copy.

    Raises:
        RefusedModel: names the function and whose it is.
    """
    for path, module in made.named_modules():
        for name, value in vars(module).items():
            if name != "forward" and hasattr(nn.Module, name):
                continue  # such as the `to` that accelerate puts in place: no forward calls it
            if any(True for _ in _enclosed(value, False, set())):
                raise RefusedModel(
                    "eager code",
                    f"the '{name}' of '{path or type(module).__name__}' was replaced by a function that keeps hold of "
                    "the modules it was made for, so that no copy of them can be studied.",
                    "Load the model before it is compiled or patched: selfrepair.load(model) first.",
                )


def _wrapped(module: Any) -> Any:
    """The module inside what `torch.compile(module)` returns, or None."""
    inner = vars(module).get("_modules", {}).get("_orig_mod")
    return inner if hasattr(module, "dynamo_ctx") else None


def _is_compiled(module: nn.Module) -> bool:
    own = vars(module)
    return (
        _wrapped(module) is not None
        or own.get("_compiled_call_impl") is not None
        or any(_before_compiling(value) is not None for value in (*own.values(), type(module).forward))
    )


def _returns_tuples(module: nn.Module) -> bool:
    try:
        return getattr(vars(module).get("config"), "return_dict", True) is not True
    except Exception:  # a configuration that raises on access
        return False


def _before_compiling(value: Any) -> Any:
    """The function that `torch.compile` was given to make `value`; None for other values.

    Its mark alone is not enough: wrappers made with `functools.wraps` around a compiled function carry it too.
    """
    code = getattr(value, "__code__", None)
    made_there = code is not None and "_dynamo" in Path(code.co_filename).parts
    return getattr(value, "_torchdynamo_orig_callable", None) if made_there else None


def _eager(value: Any) -> Any:
    """The function that was compiled, however many times, to make `value`; None for other values."""
    eager = None
    while (inner := _before_compiling(value)) is not None:
        value = eager = inner
    return eager


def _run_eagerly(module: nn.Module, memo: dict[int, Any]) -> None:
    """Puts the functions that were compiled in their places, bound to the copies of their modules."""
    own = vars(module)
    if "forward" not in own and (eager := _eager(type(module).forward)) is not None:  # compiled for all of its class
        own["forward"] = MethodType(eager, module)
    for name, value in list(own.items()):
        eager = _eager(value)
        if eager is None:
            continue
        if isinstance(eager, MethodType):
            eager = MethodType(eager.__func__, memo.get(id(eager.__self__), eager.__self__))
        if isinstance(eager, MethodType) and (eager.__self__, eager.__func__) == (module, getattr(type(module), name)):
            del own[name]
        else:
            own[name] = eager


def _enclosed(value: Any, inside: bool, seen: set[int]) -> Iterator[nn.Module]:
    """Modules with weights that a function's closure or defaults hold on to.

    Args:
        value: a function, a method, a `partial`; other things hold nothing.
        inside: whether it is itself held by a closure.
        seen: ids of the values visited so far.
    """
    if id(value) in seen:
        return
    seen.add(id(value))
    bound: list[Any] = []
    if isinstance(value, nn.Module) and inside and any(True for _ in value.parameters()):
        yield value
    elif isinstance(value, MethodType):
        bound = [value.__self__, value.__func__]
    elif isinstance(value, partial):
        bound = [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, FunctionType):
        inside = True
        bound = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        bound += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    for holder in bound:
        yield from _enclosed(holder, inside, seen)


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
