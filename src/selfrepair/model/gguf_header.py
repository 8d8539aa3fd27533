"""Checks the header of a GGUF file before any library reads it: counts and lengths have to fit the file."""

from __future__ import annotations

import math
import struct
from collections import Counter
from pathlib import Path
from typing import BinaryIO

from selfrepair.errors import SelfRepairError
from selfrepair.reading import open_regular

_FORMS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 7: "<B", 10: "<Q", 11: "<q"}  # of whole numbers
_SIZES = {kind: struct.calcsize(form) for kind, form in _FORMS.items()} | {6: 4, 12: 8}  # bytes, by type of a value
_STRING, _ARRAY = 8, 9
_MOST_DIMENSIONS, _MOST_DEPTH = 8, 4
_LARGEST = 2**32  # no size or token id is larger
_PER_BYTE = 8  # numbers that a byte stands for, at most
_NAMES = (
    "F32 F16 Q4_0 Q4_1 . . Q5_0 Q5_1 Q8_0 Q8_1 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K IQ2_XXS IQ2_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S "
    "IQ2_S IQ4_XS I8 I16 I32 I64 F64 IQ1_M BF16 . . . TQ1_0 TQ2_0 . . . MXFP4"
)
_KINDS = {number: name for number, name in enumerate(_NAMES.split()) if name != "."}  # as ggml numbers them
FLOAT_KINDS = frozenset({"F32", "F16", "BF16", "F64"})
"""Kinds of numbers that are not quantised, as ggml calls them."""


def require_gguf(path: Path) -> list[str]:
    """Refuses what is no GGUF file, or one whose header does not fit the file.

    Returns:
        Kinds of its numbers as ggml calls them, the most frequent first: `Q4_1`.

    Raises:
        SelfRepairError: with what does not fit.
    """
    try:
        with open_regular(path) as file:
            counts = _Walk(file, file.seek(0, 2)).all()
    except (OSError, ValueError) as error:
        raise SelfRepairError(
            f"'{path}' could not be loaded as a causal language model: it is not a whole GGUF file ({error}).",
            "The file is damaged, cut short, or of a kind that transformers cannot read: take it again.",
        ) from None
    return [kind for kind, _ in counts.most_common()]


def _require_agreement(values: dict[str, int | None], shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuses sizes of the model, from which it is built, that no weight in the file has."""
    blocks, widest = len(shapes), max((size for shape in shapes.values() for size in shape), default=0)
    limits = {"block_count": blocks, "embedding_length": widest, "feed_forward_length": widest, "vocab_size": widest}
    for name, value in values.items():
        limit = limits.get(name.rpartition(".")[2], _LARGEST)
        if value is not None and "." in name and value > limit:
            raise ValueError(f"its header has {name[:80]} = {value}, which does not fit its {blocks} weights")


class _Walk:
    """Goes through a header, never further than the file; ValueError where that does not suffice."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size
        file.seek(0)

    def all(self) -> Counter[str]:
        """Reads counts, values and shapes; how many numbers there are of each kind."""
        if self._bytes(4) != b"GGUF":
            raise ValueError("it does not begin with 'GGUF'")
        version = self._number("<I")
        if version not in (2, 3):
            raise ValueError(f"version {version}; versions 2 and 3 are known")
        tensors, values = self._count(24), self._count(13)
        header = {self._text(): self._value(self._number("<I")) for _ in range(values)}
        shapes, counts = {}, Counter[str]()
        for name, shape, kind in (self._tensor() for _ in range(tensors)):
            shapes[name] = shape
            counts[_KINDS.get(kind, f"type {kind}")] += math.prod(shape)
        _require_agreement(header, shapes)
        return counts

    def _tensor(self) -> tuple[str, tuple[int, ...], int]:
        name = self._text()
        dimensions = self._number("<I")
        if dimensions > _MOST_DIMENSIONS:
            raise ValueError(f"the weight '{name[:80]}' has {dimensions} dimensions")
        shape = tuple(self._number("<Q") for _ in range(dimensions))
        kind = self._number("<I")
        offset = self._number("<Q")
        if offset > self.size or math.prod(shape) > _PER_BYTE * self.size:
            raise ValueError(f"the weight '{name[:80]}' of shape {shape} does not fit in {self.size} bytes")
        return name, shape, kind

    def _value(self, kind: int, depth: int = 0) -> int | None:
        """Goes past a value; what it is, where it is a whole number."""
        if kind in _FORMS:
            return self._number(_FORMS[kind])
        if kind in _SIZES:
            self._skip(_SIZES[kind])
        elif kind == _STRING:
            self._string()
        elif kind == _ARRAY and depth < _MOST_DEPTH:
            inner = self._number("<I")
            count = self._count(_SIZES.get(inner, 8))
            if inner in _SIZES:
                self._skip(_SIZES[inner] * count)
            else:
                for _ in range(count):
                    self._value(inner, depth + 1)
        else:
            raise ValueError(f"a value of the unknown type {kind}")
        return None

    def _count(self, least: int) -> int:
        """A number of things that take that many bytes each, at least."""
        count = self._number("<Q")
        if count * least > self.size - self.file.tell():
            raise ValueError(f"{count} values are announced, more than the file can hold")
        return count

    def _string(self) -> bytes:
        return self._bytes(self._count(1))

    def _text(self) -> str:
        return self._string().decode("utf-8", "replace")

    def _number(self, form: str) -> int:
        return int(struct.unpack(form, self._bytes(struct.calcsize(form)))[0])

    def _bytes(self, length: int) -> bytes:
        content = self.file.read(length)
        if len(content) < length:
            raise ValueError("it is cut short")
        return content

    def _skip(self, length: int) -> None:
        if length > self.size - self.file.tell():
            raise ValueError("it is cut short")
        self.file.seek(length, 1)
