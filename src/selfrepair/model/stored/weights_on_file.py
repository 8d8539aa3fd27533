"""The weights of a checkpoint, each read and made dense when it is asked for: no more than a few are in memory beside
the model that is made of them.

Transformers maps whole files into memory. While it makes a float32 model of a bfloat16 file, the file's pages come on
top of the model; read this way they do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from selfrepair.errors import SelfRepairError
from selfrepair.model.stored.formats import FORMATS, Format, Settings
from selfrepair.model.stored.stock import FLOATS, Stock, StoredWeight

_PACKED = ("U8", "I8", "I32", "U32", "I16", "U16")


@dataclass(frozen=True)
class WeightOnFile:
    """A weight that is read whenever it is indexed, as the lazy slices of safetensors are.

    Attributes:
        parts: the tensors that it is made of, by the end of their names; a plain weight is its only one.
        dense: what makes it of them; None for a plain weight.
        settings: `quantization_config` of the checkpoint.
    """

    parts: Mapping[str, tuple[str, StoredWeight]]
    dense: Callable[[Mapping[str, Tensor], Settings], Tensor] | None = None
    settings: Settings = field(default_factory=dict)

    def __getitem__(self, where: Any) -> Tensor:
        read = {end: _read(name, stored) for end, (name, stored) in self.parts.items()}
        value = next(iter(read.values())) if self.dense is None else self.dense(read, self.settings)
        return value[where]


def weights_on_file(stock: Stock, method: str | None, settings: Settings) -> dict[str, Any]:
    """All weights of a checkpoint by the names that the model without quantisation has for them.

    Args:
        stock: what its files hold.
        method: how they are quantised, one of `FORMATS`; None where they are not.
        settings: `quantization_config`.

    Raises:
        SelfRepairError: a weight is of a kind that no number can be read from.
    """
    left, made = dict(stock.weights), {}
    for kept in FORMATS[method] if method is not None else ():
        for name, parts in list(_found(left, kept)):
            made[name] = WeightOnFile(parts, kept.dense, settings)
            for part, _ in parts.values():
                del left[part]
    _require_numbers(left, method)
    return made | {name: WeightOnFile({"": (name, stored)}) for name, stored in left.items()}


def _found(
    weights: Mapping[str, StoredWeight], kept: Format
) -> Iterator[tuple[str, dict[str, tuple[str, StoredWeight]]]]:
    """Matrices in a format: the name of each, and its parts."""
    first = kept.parts[0]
    for name in weights:
        stem = name.removesuffix(first)
        parts = {end: (stem + end, weights[stem + end]) for end in kept.parts if stem + end in weights}
        if name.endswith(first) and set(kept.parts[: kept.needed]) <= set(parts):
            yield stem + kept.named, parts


def _require_numbers(weights: Mapping[str, StoredWeight], method: str | None) -> None:
    """Refuses what transformers would take for numbers without the scale that belongs to them."""
    for name, stored in weights.items():
        small = stored.kind.startswith(("F8", "F4", "F6")) or (stored.kind in _PACKED and name.endswith("weight"))
        if small and stored.kind not in FLOATS:
            how = "no quantisation" if method is None else f"'{method}'"
            raise SelfRepairError(
                f"The weight '{name[:120]}' is stored as {stored.kind} in {stored.file.name}, without the scales that "
                f"make numbers of it; config.json names {how}.",
                "Give the checkpoint that it was quantised from, or one that transformers has dequantised and saved.",
            )


def _read(name: str, stored: StoredWeight) -> Tensor:
    """A tensor as it is stored. The file is mapped for as long as the tensor lives, and no longer."""
    from safetensors import safe_open

    with safe_open(stored.file, "pt") as file:
        value: Tensor = file.get_tensor(name)
    return value.clone() if value.dtype in (torch.float32, torch.float64) else value
