"""Numbers of every head, layer and model: what the map, the card and a head's page show."""

from __future__ import annotations

from typing import Any

import numpy as np

from selfrepair.effects.lines import LINES
from selfrepair.report.page.ledger_lines import absent
from selfrepair.report.page.pack import Blocks, exact
from selfrepair.results.intervention_axis import cells_of, grid_shape
from selfrepair.results.quantities import quantity_of
from selfrepair.results.runs import Run
from selfrepair.statistics.accumulate import BY_ATTENTION, BY_HEAD, BY_MLP
from selfrepair.statistics.estimator import GROUPS
from selfrepair.statistics.estimators import all_estimators
from selfrepair.statistics.labels import LABELS, LabelRule
from selfrepair.terminal import readable

PARTS = ("", "_low", "_high")
LARGEST = 24  # repairers of a head that are shown one by one


def intervention_names(run: Run) -> list[list[str]] | None:
    """Names of interventions [layer][place], empty where there is none; None where all are heads."""
    if run.of_heads:
        return None
    layers, width = grid_shape(run.interventions)
    grid = [[""] * width for _ in range(layers)]
    for cell in cells_of(run.interventions):
        grid[cell.layer][cell.head] = readable(cell.name)
    return grid


def heads_of_model(run: Run) -> int:
    """How many heads a layer has at most: components are numbered by it."""
    return int(run.interventions.sizes.get("by_head", run.grid.sizes["head"]))


def quantities(run: Run) -> list[dict[str, Any]]:
    """What the map can show, in the order of its menu."""
    left_out = {name for line in absent(run) for name in (line.quantity, line.share)}
    shown_estimators = [
        estimator
        for estimator in all_estimators().values()
        if estimator.name in run.grid and estimator.name not in left_out
    ]
    menu = [(estimator, estimator.shown) for estimator in shown_estimators if estimator.shown is not None]
    return [
        {
            "name": estimator.name,
            "group": group,
            "title": shown.title or estimator.name.replace("_", " "),
            "units": quantity_of(estimator.name).units,
            "description": quantity_of(estimator.name).description.replace("_", " "),
            "neutral": shown.neutral,
            "denominator": estimator.share_of,
            "percent": estimator.in_percent,
        }
        for group in dict.fromkeys([*GROUPS, *(shown.group for _, shown in menu)])
        for estimator, shown in menu
        if shown.group == group
    ]


def cells(run: Run, blocks: Blocks) -> dict[str, Any]:
    """Every quantity over [filter, layer, head] with error and interval; counts, thresholds, labels, q-values."""
    heads = run.grid
    arrays = {
        f"{quantity['name']}{part}": heads[f"{quantity['name']}{part}"].values.astype(np.float32)
        for quantity in quantities(run)
        for part in PARTS
    }
    arrays |= {name: heads[name].values.astype(np.int32) for name in ("count", "documents")}
    arrays |= {name: heads[name].values.astype(np.float32) for name in ("threshold", "q_value")}
    codes = {label: code for code, label in enumerate(LABELS)}
    labels = np.vectorize(lambda label: codes.get(str(label), len(LABELS) - 1), otypes=[np.uint8])
    arrays["label"] = labels(heads["label"].values)
    return blocks.arrays(arrays)


def pooled(run: Run) -> dict[str, Any]:
    """Numbers of the whole model [filter] and of layers [filter][layer], with their intervals."""
    names = ("repaired_fraction", *(line.share for line in LINES), "lost_direct_effect", "self_repair")
    numbers: dict[str, Any] = {}
    for kind in ("pooled", "layer"):
        numbers[kind] = {
            name + part: exact(run.grid[f"{kind}_{name}{part}"].values) for name in names for part in PARTS
        }
    numbers["pooled"]["count"] = exact(run.grid["pooled_count"].values)
    numbers["pooled"]["documents"] = exact(run.grid["pooled_documents"].values)
    return numbers


def curve(run: Run, blocks: Blocks) -> dict[str, Any]:
    """Self-repair over quantiles of direct effect, [bin, layer, head]."""
    names = [f"curve_self_repair{part}" for part in PARTS] + ["curve_lower_edge"]
    return blocks.arrays({name: run.grid[name].values.astype(np.float32) for name in names})


def repairers(run: Run, blocks: Blocks) -> dict[str, Any] | None:
    """The components that changed most for every filter and head, and what is left over; None without lines.

    Returns:
        `component` [filter, layer, head, place]: `layer * heads + head`, `layers * heads + layer` for an MLP, or
        `layers * heads + layers + layer` for the whole attention of a layer; -1 for none. `effect`, `low`, `high`
        alike.
    """
    if BY_MLP not in run.grid:
        return None
    values, lows, highs = (_components(run, part) for part in ("", "_low", "_high"))
    layers, heads = run.grid.sizes["layer"], heads_of_model(run)
    by_head = BY_HEAD in run.grid
    numbers = np.arange(values.shape[-1])
    if not by_head:
        numbers = np.concatenate([layers * heads + layers + np.arange(layers), layers * heads + np.arange(layers)])
    size = np.nan_to_num(np.abs(values), nan=-1)
    kept = np.argsort(-size, axis=-1, kind="stable")[..., :LARGEST]
    effect = np.take_along_axis(values, kept, -1)
    low, high = (np.take_along_axis(ends, kept, -1) for ends in (lows, highs))
    nonzero = np.isfinite(effect) & (effect != 0)
    return blocks.arrays(
        {
            "component": np.where(nonzero, numbers[kept], -1).astype(np.int32),
            "effect": effect.astype(np.float32),
            "low": low.astype(np.float32),
            "high": high.astype(np.float32),
        }
    )


def label_rule(run: Run) -> list[str]:
    """The rule behind the labels, line by line."""
    return str(run.grid["label"].attrs.get("description", LabelRule().describe())).splitlines()


def _components(run: Run, part: str) -> np.ndarray:
    """Lines of all components side by side, [filter, layer, head, component]: heads (or attention layers), MLPs."""
    attention = run.grid[(BY_HEAD if BY_HEAD in run.grid else BY_ATTENTION) + part].values
    cell = attention.shape[:3]
    return np.concatenate([attention.reshape(*cell, -1), run.grid[BY_MLP + part].values], -1)
