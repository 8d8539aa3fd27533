"""Checks that a configuration describes a model of about the size of its weights, before it is built."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from selfrepair.errors import SelfRepairError
from selfrepair.model.model_class import model_class
from selfrepair.model.stored.stock import Stock

_PARTS, _PARTS_PER_WEIGHT = 500, 10  # modules that a model may have; real ones have about one per weight
_ROOM, _TIMES = 2**22, 2  # numbers that it may have beyond those in its files: weights that are tied there
_PER_BYTE = 8  # numbers that a byte of quantised weights stands for, at most
_TABLES = 2**28  # numbers in tables that are not among the weights: positions, masks
_FIX = "config.json is damaged, or of another model than the weights; take the files again."


class _TooMany(Exception):
    """A model has more parts than it can have."""


def require_buildable(config: Any, stock: Stock, name: str) -> None:
    """Builds a model without memory for its weights, and refuses one that its files cannot fill.

    Args:
        config: the model's configuration.
        stock: the weights that its files hold.
        name: name of the model, for messages.

    Raises:
        SelfRepairError: more parts or larger weights than the files hold.
        Exception: whatever the library raises where it cannot build the model at all.
    """
    made, inner = model_class(config)
    most = _PARTS + _PARTS_PER_WEIGHT * len(stock.weights)
    try:
        with _at_most(most), torch.random.fork_rng(devices=[]), torch.device("meta"):
            network = made._from_config(inner)
    except _TooMany:
        raise SelfRepairError(
            f"The configuration of '{name}' describes a model of more than {most} parts; "
            f"its files hold {len(stock.weights)} weights.",
            _FIX,
        ) from None
    _require_filled(network, stock, getattr(config, "quantization_config", None) is not None, name)


def _require_filled(network: nn.Module, stock: Stock, quantised: bool, model: str) -> None:
    weights, stored = dict(network.named_parameters()), stock.shapes
    wanted = sum(value.numel() for value in weights.values())
    most = _PER_BYTE * stock.size if quantised else _TIMES * stock.numbers
    if wanted > most + _ROOM:
        name = max(weights, key=lambda weight: _beyond(weights[weight].shape, stored.get(weight)))
        raise SelfRepairError(
            f"The weight '{name}' of '{model}' has shape {stored[name]}; "
            f"config.json wants {tuple(weights[name].shape)}."
            if name in stored
            else f"The configuration of '{model}' describes a model of {wanted:,} numbers; "
            f"its files hold {stock.numbers:,}.",
            _FIX,
        )
    tables = sum(value.numel() for value in network.buffers())
    if tables > _TABLES + stock.numbers:
        raise SelfRepairError(
            f"The configuration of '{model}' asks for tables of {tables:,} numbers beside the weights.", _FIX
        )


def _beyond(wanted: tuple[int, ...], stored: tuple[int, ...] | None) -> int:
    return math.prod(wanted) - (math.prod(stored) if stored is not None else 0)


@contextmanager
def _at_most(parts: int) -> Iterator[None]:
    """Ends the building of a model with more modules than that."""
    left = parts

    def count(_module: nn.Module, _name: str, _part: nn.Module | None) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise _TooMany

    handle = register_module_module_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
