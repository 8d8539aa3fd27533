"""Sums, and products of activations with each other."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from selfrepair.engine.delta.rules.call import Call, lifted, rank_of
from selfrepair.engine.delta.rules.secant import secant_elementwise


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
    rank = rank_of(call, first, second)
    left, right = call.difference(first), call.difference(second)
    if right is None:
        assert left is not None
        return lifted(left, rank)
    scaled = lifted(right, rank) if factor == 1 else factor * lifted(right, rank)
    return scaled if left is None else lifted(left, rank) + scaled


def multiply(call: Call) -> Tensor:
    """`a' b' - a b = a db + da b'`."""
    first, second = call.operation.args[:2]
    rank = rank_of(call, first, second)
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
    return lifted(difference, rank_of(call, first, second)) / call.clean(second)


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
