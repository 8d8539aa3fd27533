"""Reads and writes `heads.nc`. HDF5 can claim large sizes in few bytes: they are checked before a library reads it.

Text of any length is kept apart from the places that refer to it, and a million places may refer to one text; links
and stored values may lie in other files. Files of this package have neither.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any, BinaryIO

import h5py
import numpy as np
import xarray as xr

from selfrepair.results import netcdf_layout
from selfrepair.results.schema import CELL

_AT_ONCE = 2**26  # bytes of text that may be in memory before they are counted
_MOST_DIMENSIONS = 32
_REFERENCE = 16  # bytes of the place that refers to a text


def read_heads(file: BinaryIO) -> xr.Dataset:
    """The dataset in a `heads.nc`, in memory.

    Raises:
        ValueError, OSError: it is not what `dataset_bytes` makes.
    """
    content = io.BytesIO(file.read())
    require_own_content(content)
    return netcdf_layout.read_dataset(content)


def heads_bytes(heads: xr.Dataset) -> memoryview:
    """The bytes of `heads.nc`; made in memory because HDF5 crashes the interpreter on a full disk."""
    compressed = {str(name) for name, variable in heads.variables.items() if variable.ndim > len(CELL)}
    return netcdf_layout.dataset_bytes(heads, compressed)


def require_own_content(content: io.BytesIO) -> None:
    """Refuses a file whose texts share their bytes, or that refers to other files.

    Args:
        content: the file.

    Raises:
        ValueError: saying what is wrong.
        OSError: it is not HDF5.
    """
    left = content.getbuffer().nbytes
    with h5py.File(content, "r") as file:
        for size in _sizes(file, max(1, _AT_ONCE // max(1, left))):
            left -= size
            if left < 0:
                raise ValueError("its texts are longer than the file")
    content.seek(0)


def _sizes(file: h5py.File, step: int) -> Iterator[int]:
    """Bytes of all that has a length of its own, `step` values at a time."""
    yield from _attributes(file)
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name[:80]!r} lies elsewhere")
        stored = file[name]
        if not isinstance(stored, h5py.Dataset) or stored.external or stored.is_virtual:
            raise ValueError(f"{name[:80]!r} is no variable of this file")
        yield from _attributes(stored)
        if _has_lengths(stored.dtype):
            yield _REFERENCE * stored.size
            yield from _texts(stored, step)


def _texts(values: h5py.Dataset, step: int, index: tuple[int, ...] = ()) -> Iterator[int]:
    """Bytes of a variable's texts, from `index` on, about `step` of them at a time."""
    shape = values.shape[len(index) :]
    across = max(1, math.prod(shape[1:]))
    if shape and across > step:
        for row in range(shape[0]):
            yield from _texts(values, step, (*index, row))
    elif shape:
        rows = step // across
        for start in range(0, shape[0], rows):
            yield _bytes(values[(*index, slice(start, start + rows))])
    else:
        yield _bytes(values[index])


def _attributes(holder: Any) -> Iterator[int]:
    for name in holder.attrs:
        about = holder.attrs.get_id(name)
        if _has_lengths(about.dtype):
            if math.prod(about.shape) > _MOST_DIMENSIONS:
                raise ValueError(f"the attribute {name[:80]!r} is a list of {about.shape} texts")
            yield _bytes(holder.attrs[name])


def _has_lengths(kind: np.dtype[Any]) -> bool:
    """Whether every value has a length of its own; references to variables have not."""
    return kind.kind == "O" and h5py.check_ref_dtype(kind) is None


def _bytes(values: Any) -> int:
    if isinstance(values, np.ndarray) and values.dtype.kind != "O":
        return int(values.nbytes)
    if isinstance(values, np.ndarray):
        return sum(map(_bytes, values.flat))
    return len(values) if isinstance(values, bytes | str) else 0
