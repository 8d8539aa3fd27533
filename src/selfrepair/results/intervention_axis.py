"""Results over one axis of interventions, whatever they ablate, in place of the axes of layers and heads."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from selfrepair.errors import SelfRepairError
from selfrepair.results.schema import CELL


def with_names(heads: xr.Dataset, names: Mapping[tuple[int, int], tuple[str, str]]) -> xr.Dataset:
    """A dataset whose cells are other interventions than heads, with the coordinates `name` and `kind`.

    Args:
        heads: from `heads_dataset`.
        names: name and kind of the intervention in each (layer, head) cell; others hold none.
    """
    shape = tuple(heads.sizes[axis] for axis in CELL[1:])
    found = np.full((2, *shape), "", object)
    for cell, both in names.items():
        found[:, cell[0], cell[1]] = both
    says = ("what was ablated; `head` is its place among those that start in the layer", "head, attention, mlp or set")
    return heads.assign_coords(
        {
            name: xr.Variable(CELL[1:], values, {"long_name": name, "description": text})
            for name, values, text in zip(("name", "kind"), found, says, strict=True)
        }
    )


def flat(heads: xr.Dataset) -> xr.Dataset:
    """The same numbers with one axis `intervention` in place of layer and head.

    Args:
        heads: means per (filter, layer, head).

    Returns:
        Variables over [filter, intervention, ...] with the coordinates `layer` (in which it starts), `head` (its place
        there), `kind` and `name` (`L9H6`); cells in which nothing was measured are left out, numbers of whole layers
        keep an axis `in_layer`.
    """
    named = heads if "name" in heads.coords else with_names(heads, _names_of_heads(heads))
    whole = {name for name, value in named.data_vars.items() if "layer" in value.dims and "head" not in value.dims}
    layers = named[sorted(whole)].rename(layer="in_layer").drop_vars(["name", "kind"], errors="ignore")
    cells = named.drop_vars(whole).stack(intervention=("layer", "head"))
    measured = (cells["count"].sum("filter") > 0).values
    cells = cells.isel(intervention=np.flatnonzero(measured))
    coordinates = {axis: ("intervention", cells[axis].values) for axis in ("layer", "head", "name", "kind")}
    cells = cells.drop_vars(["intervention", "layer", "head", "name", "kind"]).assign_coords(coordinates)
    lead = [axis for axis in ("filter", "bin", "intervention") if axis in cells.dims]
    return xr.merge([cells, layers], compat="override").transpose(*lead, ...)


def _names_of_heads(heads: xr.Dataset) -> dict[tuple[int, int], tuple[str, str]]:
    layers, columns = (heads.sizes[axis] for axis in CELL[1:])
    return {(layer, head): (f"L{layer}H{head}", "head") for layer in range(layers) for head in range(columns)}


def require_heads(heads: xr.Dataset, what: str) -> None:
    """Refuses numbers of other interventions than single heads, for what draws layers and heads.

    Args:
        heads: of a run.
        what: cannot be made of others, as in 'The page'.

    Raises:
        SelfRepairError: saying where the numbers are.
    """
    if "name" in heads.coords:
        raise SelfRepairError(
            f"{what} is of single heads; this run ablated other interventions.",
            "Their numbers are in Run.interventions and Run.table().",
        )
