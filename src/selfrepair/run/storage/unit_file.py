"""The file of a finished unit: safetensors with digests by which the whole or a part can be verified.

The header carries a digest for every block of the data, and which unit of which plan it is and what it was made of; the
file's name carries the digest of the header. So a reader of a tensor, or of some rows of one, knows from the name alone
that these bytes are what was written.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from selfrepair.reading import parsed_json
from selfrepair.results.proven import SHORT, Damaged, Digests, ProvenFile, opened, short_digest

Arrays = dict[str, np.ndarray]
NAME = re.compile(
    rf"(?P<stage>[a-z]+)-(?P<number>\d{{6}})-(?P<plan>[0-9a-f]{{8}})-(?P<digest>[0-9a-f]{{{SHORT}}})\.safetensors"
)
FIX = "`selfrepair resume` on the run's folder does it again."
_BLOCK = 2**14  # bytes with a digest of their own: few rows are read for many, and digests take 1/500 of the room
_MOST_HEADER = 10**8  # bytes, as safetensors itself allows
_HEADERS = 256  # in memory; a merge comes back to every unit for every layer
_DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "|b1"},
    **{f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)},
}


@dataclass(frozen=True)
class Label:
    """Which unit a file holds.

    Attributes:
        plan: identity of the plan (`run_plan.identity`).
        stage: stage of the run.
        number: number of the unit.
        made_of: digests of the files that it was made of: of a sweep unit, the thresholds; of those, the survey.
    """

    plan: str
    stage: str
    number: int
    made_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Tensor:
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    low: int
    high: int


@dataclass(frozen=True)
class _Header:
    label: Label
    tensors: dict[str, _Tensor]
    digests: Digests
    start: int


def plan_mark(plan_id: str) -> str:
    """The part of a plan's identity that is in file names."""
    return hashlib.sha256(plan_id.encode()).hexdigest()[:8]


def sealed(arrays: Arrays, label: Label) -> tuple[str, bytes, memoryview]:
    """Name, header and data of a unit's file; the same unit is always the same file."""
    content = save({name: np.ascontiguousarray(value) for name, value in arrays.items()})
    (size,) = struct.unpack("<Q", content[:8])
    data = memoryview(content)[8 + size :]
    about = {
        "plan": label.plan,
        "stage": label.stage,
        "number": label.number,
        "made_of": list(label.made_of),
        "bytes": len(data),
        "block": _BLOCK,
        "blocks": "".join(Digests.of(data, _BLOCK).blocks),
    }
    header = {"__metadata__": {"unit": json.dumps(about)}, **json.loads(content[8 : 8 + size])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = struct.pack("<Q", len(text)) + text
    name = f"{label.stage}-{label.number:06d}-{plan_mark(label.plan)}-{short_digest(head)}.safetensors"
    return name, head, data


def proven_content(path: Path) -> bytes:
    """All bytes of a unit's file, read once.

    Raises:
        Damaged: they are not what was written.
    """
    with opened(path) as file:
        content = file.read()
    header = _proven_header(path, content)
    if Digests.of(memoryview(content)[header.start :], header.digests.block) != header.digests:
        raise Damaged(path, f"{path} is damaged: its content is not what was written.", FIX)
    return content


@contextmanager
def unsealed(path: Path) -> Iterator[Sealed]:
    """A unit's file to read from.

    Raises:
        Damaged: it is gone, or not what its name says; also raised while it is read.
    """
    header = read_header(path)
    try:
        with ProvenFile(path, header.digests, header.start) as file:
            yield Sealed(header, file)
    except Damaged as problem:
        raise Damaged(problem.path, problem.problem, problem.fix or FIX) from None


class Sealed:
    """An open unit; every array that it gives has been compared with its digests.

    Args:
        header: header of the file.
        file: its data.
    """

    def __init__(self, header: _Header, file: ProvenFile) -> None:
        self._header, self._file = header, file

    @property
    def label(self) -> Label:
        """Which unit it is."""
        return self._header.label

    def names(self, prefix: str = "") -> list[str]:
        """Names of the arrays that start with `prefix`."""
        return [name for name in self._header.tensors if name.startswith(prefix)]

    def array(self, name: str) -> np.ndarray:
        """A whole array."""
        tensor = self._header.tensors[name]
        return self._read(tensor, tensor.shape, tensor.low, tensor.high)

    def rows(self, name: str, start: int, stop: int, layer: int | None = None) -> np.ndarray:
        """Rows `start` to `stop` of an array's first axis, or of its second, in one layer of its first."""
        tensor = self._header.tensors[name]
        shape = tensor.shape if layer is None else tensor.shape[1:]
        offset = 0 if layer is None else layer * shape[0]
        size = math.prod(shape[1:]) * tensor.dtype.itemsize
        low = tensor.low + (offset + start) * size
        return self._read(tensor, (stop - start, *shape[1:]), low, low + (stop - start) * size)

    def _read(self, tensor: _Tensor, shape: Sequence[int], low: int, high: int) -> np.ndarray:
        return np.frombuffer(self._file.span(low, high), tensor.dtype).reshape(shape)

    def check(self) -> None:
        """Reads everything once.

        Raises:
            Damaged: something is not what was written.
        """
        for start in range(0, self._header.digests.size, 2**24):
            self._file.span(start, min(start + 2**24, self._header.digests.size))


def read_header(path: Path) -> _Header:
    """The header of a unit's file as it is now on disk.

    Raises:
        Damaged: it is not what the file's name says.
    """
    with opened(path) as file:
        head = file.read(8)
        return _proven_header(path, head + file.read(min(_size(head), _MOST_HEADER)))


def _size(content: bytes) -> int:
    """Length of a file's header, by its first bytes; 0 if they are missing."""
    size: int = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else 0
    return size


def _proven_header(path: Path, content: bytes) -> _Header:
    """The header that a file's content starts with."""
    match, head = NAME.fullmatch(path.name), content[: 8 + _size(content)]
    if match is None or short_digest(head) != match["digest"]:
        raise Damaged(path, f"{path} is damaged: its header is not what its name says.", FIX)
    try:
        header = _parsed(head)
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise Damaged(path, f"{path} has no header of a unit ({problem}).", FIX) from None
    label = header.label
    if (label.stage, label.number, plan_mark(label.plan)) != (match["stage"], int(match["number"]), match["plan"]):
        actual = f"{label.stage} {label.number} of plan {label.plan}"
        raise Damaged(path, f"{path} holds another unit than its name says: {actual}.", FIX)
    return header


@lru_cache(maxsize=_HEADERS)
def _parsed(head: bytes) -> _Header:
    header = parsed_json(head[8:])
    about = parsed_json(header.pop("__metadata__")["unit"])
    blocks = about["blocks"]
    digests = Digests(
        about["bytes"], about["block"], tuple(blocks[at : at + SHORT] for at in range(0, len(blocks), SHORT))
    )
    tensors = {name: _tensor(given, digests.size) for name, given in header.items()}
    label = Label(about["plan"], about["stage"], about["number"], tuple(about["made_of"]))
    return _Header(label, tensors, digests, len(head))


def _tensor(given: dict[str, Any], size: int) -> _Tensor:
    dtype, shape, (low, high) = np.dtype(_DTYPES[given["dtype"]]), tuple(given["shape"]), given["data_offsets"]
    if not 0 <= low <= high <= size or math.prod(shape) * dtype.itemsize != high - low:
        raise ValueError("an array lies outside of the file")
    return _Tensor(dtype, shape, low, high)
