"""One axis of interventions on disk; layers and heads, as ever, where each is one head."""

import io

import numpy as np
import pytest
import xarray as xr
from made_runs import made_run

from selfrepair import SelfRepairError, load_run
from selfrepair.results import netcdf
from selfrepair.results.intervention_axis import Cell, by_layer_and_head, cells_of_heads, flat, of_heads


@pytest.fixture(scope="module")
def run():
    return made_run(skip={(2, 3)})


def grid(layers=2, heads=3):
    """Numbers that tell their own place; what lies in no head is as in results."""
    values = np.arange(2.0 * layers * heads * 2).reshape(2, layers, heads, 2)
    cells = ("filter", "layer", "head")
    return xr.Dataset(
        {
            "self_repair": (cells, values[..., 0]),
            "repair_by_mlp": ((*cells, "by_layer"), values.astype(np.float32), {"units": "logit"}),
            "count": (cells, values[..., 0].astype(int)),
            "label": (cells, values[..., 0].astype(str).astype(object)),
            "curve_self_repair": (("bin", "layer", "head"), values[..., 1]),
            "layer_repaired_fraction": (("filter", "layer"), values[:, :, 0, 0]),
            "pooled_count": ("filter", np.array([1, 2])),
        },
        {"filter": ["all", "top 2%"], "layer": range(layers), "head": range(heads), "bin": [0, 1]},
        {"model": "m"},
    )


def test_the_file_has_one_axis_of_interventions(run, tmp_path):
    """As another program reads it: dimensions, coordinates, and no grid."""
    with xr.open_dataset(run.save(tmp_path / "run") / "heads.nc", engine="h5netcdf") as stored:
        assert stored["self_repair"].dims == ("filter", "intervention")
        assert stored["repair_by_head"].dims == ("filter", "intervention", "by_layer", "by_head")
        assert stored["curve_self_repair"].dims == ("bin", "intervention")
        assert stored["layer_repaired_fraction"].dims == ("filter", "in_layer")
        assert {"layer", "head", "kind", "name"} <= set(stored.coords)
        assert not {"layer", "head"} & set(stored.sizes)
        names = [f"L{layer}H{head}" for layer in range(3) for head in range(4)]
        assert stored["name"].values.tolist() == names and set(stored["kind"].values) == {"head"}
        xr.testing.assert_identical(stored.load(), load_run(tmp_path / "run").interventions)


def test_heads_are_layers_and_heads_with_the_same_values(run):
    heads, stored = run.heads, run.interventions
    assert heads["self_repair"].dims == ("filter", "layer", "head") and "kind" not in heads.coords
    for place, (layer, head) in enumerate(zip(stored["layer"].values, stored["head"].values, strict=True)):
        for name in ("self_repair", "repair_by_head_low", "curve_lower_edge", "label", "count", "threshold"):
            np.testing.assert_array_equal(
                heads[name].sel(layer=layer, head=head).values, stored[name].isel(intervention=place).values
            )
    assert np.shares_memory(heads["repair_by_head"].values, stored["repair_by_head"].values)
    xr.testing.assert_identical(flat(heads, cells_of_heads([4, 4, 4])), stored)


@pytest.mark.parametrize("by_layer", [[3, 3], [3, 1], [1, 3]])
def test_flat_and_back_is_the_same_and_no_head_holds_nothing(by_layer):
    given = grid()
    stored = flat(given, cells_of_heads(by_layer))
    assert stored.sizes["intervention"] == sum(by_layer) and stored.attrs == given.attrs
    back = by_layer_and_head(netcdf.read_heads(io.BytesIO(netcdf.heads_bytes(stored))))
    there = xr.DataArray(np.arange(3) < np.array(by_layer)[:, None], dims=("layer", "head"))
    for name, value in given.variables.items():
        assert back[name].dims == value.dims and back[name].attrs == value.attrs
        if "head" not in value.dims or name == "head":
            np.testing.assert_array_equal(back[name].values, value.values)
        else:
            np.testing.assert_array_equal(back[name].values[..., there.values, :] if name == "repair_by_mlp" else
                                          back[name].values[..., there.values],
                                          value.values[..., there.values, :] if name == "repair_by_mlp" else
                                          value.values[..., there.values])  # fmt: skip
    assert back["self_repair"].where(~there).isnull().all() and not back["count"].where(~there, 0).any()
    assert set(back["label"].values[:, ~there.values].ravel()) <= {"uncertain"}


def test_other_interventions_have_no_heads(run):
    cells = [Cell(0, 0, "set", "movers"), Cell(0, 1, "mlp", "L0.mlp"), Cell(1, 0, "head", "L1H2")]
    stored = flat(grid(), cells)
    assert not of_heads(stored) and stored["name"].values.tolist() == ["movers", "L0.mlp", "L1H2"]
    np.testing.assert_array_equal(stored["self_repair"].values, grid()["self_repair"].values[:, [0, 0, 1], [0, 1, 0]])
    other = type(run)(run.plan, run.outcome, stored, run.kept, run.corpus)
    with pytest.raises(SelfRepairError, match="single heads") as caught:
        _ = other.heads
    assert "Run.interventions" in caught.value.fix
