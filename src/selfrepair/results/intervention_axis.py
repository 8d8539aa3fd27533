"""The axis `intervention` of results, and its conversion to and from layers and heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from selfrepair.errors import SelfRepairError
from selfrepair.statistics.labels import LABELS

AXIS = "intervention"
LAYERS = "in_layer"  # axis of numbers of whole layers; `layer` is a coordinate of interventions
COORDINATES = {
    "layer": "in which the intervention starts",
    "head": "which head of the layer; of other interventions, which of those that start in the layer",
    "kind": "head, attention, mlp, neuron or set",
    "name": "what was ablated",
}
_MOST_EMPTY = 64  # times as many cells as interventions that layers and heads may have
_OF_NO_HEAD: dict[str, object] = {"label": LABELS[-1], "effective_documents": 0.0}  # others hold NaN, zero or nothing


class Cell(NamedTuple):
    """One intervention: the layer in which it starts, its place there, what kind of thing it ablates, and its name."""

    layer: int
    head: int
    kind: str
    name: str


def cells_of_heads(heads_by_layer: Sequence[int]) -> list[Cell]:
    """Every head of a model as an intervention of its own."""
    return [
        Cell(layer, head, "head", f"L{layer}H{head}")
        for layer, heads in enumerate(heads_by_layer)
        for head in range(heads)
    ]


def cells_of(interventions: xr.Dataset) -> list[Cell]:
    """The interventions of a dataset, in the order of its axis."""
    layer, head, kind, name = (interventions[axis].values for axis in COORDINATES)
    return [
        Cell(int(row), int(column), str(k), str(n)) for row, column, k, n in zip(layer, head, kind, name, strict=True)
    ]


def grid_shape(interventions: xr.Dataset) -> tuple[int, int]:
    """(layers, places in a layer's row): the cells that interventions lie in."""
    return int(interventions.sizes[LAYERS]), int(interventions["head"].values.max()) + 1


def flat(grid: xr.Dataset, cells: Sequence[Cell]) -> xr.Dataset:
    """Numbers over layers and places in their rows as numbers over interventions.

    Args:
        grid: variables over [..., layer, head, ...]; those over layers alone stay so, with the axis `in_layer`.
        cells: the interventions; what lies in other cells is left out.
    """
    layers, heads = grid.sizes["layer"], grid.sizes["head"]
    cell_index = np.array([cell.layer * heads + cell.head for cell in cells], int)
    every = np.array_equal(cell_index, np.arange(layers * heads))

    def flattened(variable: xr.Variable) -> xr.Variable:
        if "head" not in variable.dims:
            return xr.Variable([LAYERS if axis == "layer" else axis for axis in variable.dims], variable.values)
        at = variable.dims.index("layer")
        dims, shape = variable.dims, variable.shape
        values = variable.values.reshape(*shape[:at], layers * heads, *shape[at + 2 :])
        return xr.Variable((*dims[:at], AXIS, *dims[at + 2 :]), values if every else values.take(cell_index, at))

    variables = {name: flattened(value) for name, value in grid.variables.items() if name not in ("layer", "head")}
    for name, variable in variables.items():
        variable.attrs.update(grid.variables[name].attrs)
    variables[LAYERS] = xr.Variable(LAYERS, np.arange(layers))
    for (name, text), values in zip(COORDINATES.items(), zip(*cells, strict=True), strict=True):
        kept = np.array(values, int if name in ("layer", "head") else object)
        variables[name] = xr.Variable(AXIS, kept, {"long_name": name, "description": text})
    axes = {*grid.coords, LAYERS, *COORDINATES}
    return xr.Dataset(variables, attrs=grid.attrs).set_coords([name for name in variables if name in axes])


def by_layer_and_head(interventions: xr.Dataset) -> xr.Dataset:
    """The same numbers over [..., layer, head, ...]; no copy where every layer has as many interventions.

    Args:
        interventions: from `flat`. Cells without an intervention hold what unmeasured heads do: no tokens, NaN.
    """
    layers, heads = grid_shape(interventions)
    cell_index = interventions["layer"].values * heads + interventions["head"].values
    every = np.array_equal(cell_index, np.arange(layers * heads))

    def unstacked(name: Any, variable: xr.Variable) -> xr.Variable:
        if AXIS not in variable.dims:
            dims = ["layer" if axis == LAYERS else axis for axis in variable.dims]
            return xr.Variable(dims, variable.values, variable.attrs)
        at = variable.dims.index(AXIS)
        dims, (before, after) = variable.dims, (variable.shape[:at], variable.shape[at + 1 :])
        values = variable.values
        if not every:
            values = _of_no_heads((*before, layers * heads, *after), name, variable)
            np.moveaxis(values, at, 0)[cell_index] = np.moveaxis(variable.values, at, 0)
        axes = (*dims[:at], "layer", "head", *dims[at + 1 :])
        return xr.Variable(axes, values.reshape(*before, layers, heads, *after), variable.attrs)

    kept = {name: value for name, value in interventions.variables.items() if name not in (LAYERS, *COORDINATES)}
    variables = {name: unstacked(name, value) for name, value in kept.items()}
    axes = [name for name in interventions.coords if name in variables]
    variables |= {"layer": xr.Variable("layer", np.arange(layers)), "head": xr.Variable("head", np.arange(heads))}
    return xr.Dataset(variables, attrs=interventions.attrs).set_coords(axes)


def of_heads(interventions: xr.Dataset) -> bool:
    """Whether each intervention is the ablation of one head, which its `layer` and `head` name."""
    return all(cell.kind == "head" and cell.name == f"L{cell.layer}H{cell.head}" for cell in cells_of(interventions))


def require_heads(interventions: xr.Dataset, what: str) -> None:
    """Refuses numbers of other interventions than single heads, for what is of layers and heads.

    Args:
        interventions: numbers of a run.
        what: what cannot be made of others, as in 'The figure'.

    Raises:
        SelfRepairError: saying where the numbers are.
    """
    if not of_heads(interventions):
        raise SelfRepairError(
            f"{what} is of single heads; this run ablated other interventions.",
            "Their numbers are in Run.interventions and Run.table(), and on the page (`selfrepair report`).",
        )


def require_axis(interventions: xr.Dataset) -> None:
    """Refuses a dataset whose interventions are not where `flat` puts them, or not one in a cell.

    Raises:
        SelfRepairError: naming the coordinate.
    """
    for axis in COORDINATES:
        if axis not in interventions.coords or interventions[axis].dims != (AXIS,):
            raise SelfRepairError(
                f"The dataset has no coordinate {axis!r} of interventions.", "Run the measurement again."
            )
        kinds = "iu" if axis in ("layer", "head") else "OUT"
        if interventions[axis].dtype.kind not in kinds:
            raise SelfRepairError(f"Coordinate {axis!r} holds {interventions[axis].dtype}, not values of its kind.")
    layer, head = (interventions[axis].values.astype(object) for axis in ("layer", "head"))
    layers, count = interventions.sizes.get(LAYERS, 0), len(layer)
    if not count or min(layer) < 0 or max(layer) >= layers or min(head) < 0:
        raise SelfRepairError(f"The dataset has interventions outside its {layers} layers, or none.")
    if layers * (max(head) + 1) > _MOST_EMPTY * count or len(set(zip(layer, head, strict=True))) < count:
        raise SelfRepairError("The dataset's interventions share cells, or leave most of them empty.")


def _of_no_heads(shape: tuple[int, ...], name: Any, variable: xr.Variable) -> np.ndarray:
    """Values of a variable in cells without a head."""
    if variable.dtype.kind in "OU":
        text = np.array(_OF_NO_HEAD.get(name, ""))
        return np.full(shape, text, np.result_type(variable.dtype, text.dtype))
    if name == "curve_lower_edge":  # [bin, intervention]; the first bin has no lower end, whatever the head
        return np.full(shape, np.where(np.isneginf(variable.values[:, :1]), -np.inf, np.nan))
    return np.full(shape, _OF_NO_HEAD.get(name, np.nan if variable.dtype.kind == "f" else 0), variable.dtype)
