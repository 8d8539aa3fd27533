"""What the files of a checkpoint hold, by their headers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Kinds of numbers, as safetensors calls them, that are used as they are."""


@dataclass(frozen=True)
class StoredWeight:
    """A weight in a file.

    Attributes:
        file: the safetensors file.
        kind: kind of its numbers, as safetensors calls it: `BF16`.
        shape: its shape.
    """

    file: Path
    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Stock:
    """The content of files of weights.

    Attributes:
        weights: every weight, by name.
        size: bytes of the files.
    """

    weights: dict[str, StoredWeight]
    size: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every weight, by name."""
        return {name: weight.shape for name, weight in self.weights.items()}

    @property
    def numbers(self) -> int:
        """Numbers in all weights together."""
        return sum(math.prod(weight.shape) for weight in self.weights.values())

    @property
    def kinds(self) -> list[str]:
        """Kinds of floating-point numbers that are used as they are, the most frequent first: `bfloat16`."""
        counts: Counter[str] = Counter()
        for weight in self.weights.values():
            if weight.kind in FLOATS:
                counts[str(FLOATS[weight.kind]).removeprefix("torch.")] += math.prod(weight.shape)
        return [kind for kind, _ in counts.most_common()]

    def __add__(self, other: Stock) -> Stock:
        return Stock(self.weights | other.weights, self.size + other.size)


@dataclass(frozen=True)
class OnFile:
    """What a model's weights are on file, for those who read its numbers.

    Attributes:
        kinds: `bfloat16`, `fp8`, `GGUF Q8_0 and F32`.
        quantised: whether they are quantised, at least some.
    """

    kinds: str
    quantised: bool

    def measured_in(self, dtype: str) -> str:
        """In words, what was measured of them: `bfloat16 on file, measured in float32`."""
        if self.quantised:
            return f"{self.kinds} on file, dequantised to {dtype}"
        return f"{self.kinds} on file" + ("" if self.kinds == dtype else f", measured in {dtype}")


def kinds_in_words(kinds: Iterable[str]) -> str:
    """`bfloat16 and float32`."""
    *most, last = list(kinds) or ["no numbers"]
    return f"{', '.join(most)} and {last}" if most else last
