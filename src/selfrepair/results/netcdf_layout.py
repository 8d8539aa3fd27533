"""The netCDF-4 layout of variables in HDF5, as far as `heads.nc` needs it, in a tenth of the time of h5netcdf.

A dimension is a *dimension scale*: the variable of its name, or a placeholder where there is none. Every variable
refers to the scales of its axes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
import xarray as xr

from selfrepair.results.size_limits import require_room

_PLACEHOLDER = b"This is a netCDF dimension but not a netCDF variable."
_OF_HDF5 = ("CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST")
_OF_THE_LAYOUT = (*_OF_HDF5, "_Netcdf4Dimid", "_Netcdf4Coordinates", "_NCProperties")
_TEXT = h5py.string_dtype()


def dataset_bytes(heads: xr.Dataset, compressed: set[str]) -> memoryview:
    """The bytes of a netCDF-4 file.

    Args:
        heads: the dataset.
        compressed: names of variables to be compressed.
    """
    variables, attributes = xr.conventions.cf_encoder(*xr.conventions.encode_dataset_coordinates(heads))
    content = io.BytesIO()
    with h5py.File(content, "w", track_order=True) as file:
        _describe(file, attributes)
        for name, variable in variables.items():
            _store(file, str(name), variable, "gzip" if name in compressed else None)
        for name, size in heads.sizes.items():
            if name not in file:
                file.create_dataset(name, (size,), ">f4").make_scale(_PLACEHOLDER + f"{size:10d}".encode())
            else:
                file[name].make_scale(name)
        scales = {name: file[name] for name in heads.sizes}
        for name, variable in variables.items():
            axes = file[name].dims
            for number, dimension in enumerate(variable.dims if variable.dims != (name,) else ()):
                axes[number].attach_scale(scales[dimension])
    return content.getbuffer()


def read_dataset(content: io.BytesIO) -> xr.Dataset:
    """The dataset in a file that `dataset_bytes` made, in memory.

    Args:
        content: the file, which `netcdf.require_own_content` has looked through.

    Raises:
        ValueError: it names more than a file of its size can hold.
        Exception: any other error of h5py and xarray on a file of another kind.
    """
    with h5py.File(content, "r") as file:
        stored = {name: file[name] for name in file}
        require_room(content, sum(array.size * array.dtype.itemsize for array in stored.values()), "arrays")
        scales = {h5py.h5o.get_info(array.id).addr: name for name, array in stored.items() if array.is_scale}
        variables = {
            name: xr.Variable(_dimensions(name, array, scales), _values(array), _attributes(array))
            for name, array in stored.items()
            if not _is_placeholder(array)
        }
        raw = xr.Dataset(variables, attrs=_attributes(file))
    return xr.decode_cf(raw)


def _store(file: h5py.File, name: str, variable: xr.Variable, compression: str | None) -> None:
    values, text = np.asarray(variable.values), variable.dtype.kind in "OU"
    stored = file.create_dataset(
        name,
        data=values.astype(object) if text else values,
        dtype=_TEXT if text else values.dtype,
        track_order=True,
        compression=compression,
        shuffle=compression is not None,
    )
    _describe(stored, variable.attrs)


def _describe(holder: Any, attributes: Mapping[Any, Any]) -> None:
    """Writes attributes; a number is a list of one in netCDF."""
    for name, value in attributes.items():
        holder.attrs[name] = value if isinstance(value, str) else np.atleast_1d(value)


def _attributes(holder: Any) -> dict[str, Any]:
    attributes = {name: value for name, value in holder.attrs.items() if name not in _OF_THE_LAYOUT}
    return {name: value[0] if np.shape(value) == (1,) else value for name, value in attributes.items()}


def _values(stored: h5py.Dataset) -> np.ndarray[Any, Any]:
    return np.asarray(stored.asstr()[...].astype(str) if h5py.check_string_dtype(stored.dtype) else stored[...])


def _is_placeholder(stored: h5py.Dataset) -> bool:
    return stored.is_scale and bytes(stored.attrs.get("NAME", b"")).startswith(_PLACEHOLDER)


def _dimensions(name: str, stored: h5py.Dataset, scales: Mapping[int, str]) -> tuple[str, ...]:
    """Names of a variable's axes; a scale of one axis has its own."""
    if stored.is_scale and stored.ndim == 1:
        return (name,)
    if stored.ndim == 0:
        return ()
    if "DIMENSION_LIST" not in stored.attrs:
        raise ValueError(f"{name[:80]!r} does not say what its axes are")
    names = []
    for axis in stored.attrs["DIMENSION_LIST"]:
        (scale,) = axis
        names.append(scales[h5py.h5o.get_info(h5py.h5r.dereference(scale, stored.id)).addr])
    return tuple(names)
