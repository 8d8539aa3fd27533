"""`heads.nc` as it is written and read here, against what xarray's own library makes of the same."""

import io

import h5py
import numpy as np
import pytest
import xarray as xr
from made_runs import made_run

from selfrepair.results import netcdf


def odd() -> xr.Dataset:
    """What files may hold beside the variables of a run."""
    return xr.Dataset(
        {
            "number": ((), 7.5),
            "flag": (("cell",), np.array([True, False])),
            "text": (("cell", "without_coordinate"), np.array([["", "naïve", "\N{SNOWMAN}"], ["a", "b", "c" * 99]])),
            "single": (("cell",), np.array([np.nan, np.inf], np.float32), {"units": "logit", "zero": 0, "half": 0.5}),
            "named": (("cell",), np.array(["", ""])),
        },
        coords={"cell": ["L0H1", "L0.mlp"], "layer": ("cell", [0, 0])},
        attrs={"note": "", "seed": 3, "share": 0.25, "list": np.arange(3), "long": "x" * 5000},
    )


@pytest.fixture(scope="module", params=["run", "odd"])
def heads(request) -> xr.Dataset:
    return made_run(skip={(2, 3)}).heads if request.param == "run" else odd()


def by_xarray(heads: xr.Dataset) -> bytes:
    content = io.BytesIO()
    heads.to_netcdf(content, engine="h5netcdf")
    return bytes(content.getbuffer())


def assert_same(found: xr.Dataset, expected: xr.Dataset) -> None:
    assert found.identical(expected) and list(found.variables) == list(expected.variables)
    assert set(found.coords) == set(expected.coords)
    for name, variable in expected.variables.items():
        values = variable.values.astype(str) if variable.dtype.kind == "O" else variable.values
        assert found[name].dtype == values.dtype and found[name].values.tobytes() == values.tobytes(), name
        assert list(found[name].attrs) == list(variable.attrs), name


def test_what_is_written_is_read(heads):
    assert_same(netcdf.read_heads(io.BytesIO(netcdf.heads_bytes(heads))), heads)


def test_other_software_reads_what_is_written(heads):
    assert_same(xr.load_dataset(io.BytesIO(netcdf.heads_bytes(heads)), engine="h5netcdf"), heads)


def test_what_other_software_wrote_is_read(heads):
    found = netcdf.read_heads(io.BytesIO(by_xarray(heads)))
    xr.testing.assert_identical(found, xr.load_dataset(io.BytesIO(by_xarray(heads)), engine="h5netcdf"))


def test_an_array_without_named_axes_is_refused():
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["self_repair"] = np.zeros((2, 2))
    with pytest.raises(ValueError, match="'self_repair' does not say what its axes are"):
        netcdf.read_heads(io.BytesIO(content.getvalue()))
