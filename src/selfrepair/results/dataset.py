"""The dataset of `heads.nc`, built from the sums of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from selfrepair.results.intervention_axis import Cell, flat
from selfrepair.results.quantities import COMPONENT, INTERVALS_NOTE, LARGEST, PARTS, Quantity, quantity_of
from selfrepair.results.schema import SCHEMA
from selfrepair.statistics.accumulate import BY_ATTENTION, BY_HEAD, BY_MLP
from selfrepair.statistics.component_lines import Lines
from selfrepair.statistics.donor_variance import DONOR_SHARE, VarianceSplit
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.labels import LabelRule
from selfrepair.statistics.largest import largest
from selfrepair.statistics.reaction import RATE
from selfrepair.statistics.summary import Summary
from selfrepair.terminal import readable

GRID = ("filter", "layer", "head")  # axes of sums: a layer in which interventions start, and a place in its row


def heads_dataset(
    summary: Summary,
    filters: Sequence[str],
    thresholds: np.ndarray,
    lines: Lines | None,
    curve: Estimate,
    edges: np.ndarray,
    donor_split: VarianceSplit | None,
    donors_needed: np.ndarray | None,
    cells: Sequence[Cell],
    attributes: Mapping[str, object],
) -> xr.Dataset:
    """The dataset of `heads.nc`. Sums come by the layer in which interventions start and their place there: of single
    heads, by layer and head.

    Args:
        summary: every estimator with its interval.
        filters: labels of the filters.
        thresholds: [filter, layer, head].
        lines: lines of downstream components, where they were kept.
        curve: mean self-repair by bin of direct effect [bin, layer, head].
        edges: inner edges of these bins [layer, head, bin - 1].
        donor_split: variance of self-repair over documents, tokens and donors, with several donors.
        donors_needed: [layer, head], see `statistics.donor_variance.donors_needed`, with several donors.
        cells: the interventions on the axis, each with its layer and place in the layer.
        attributes: facts about the run (title, operator, donors, model, text, engine, dtype,
            numerical_floor, ledger_residual, tokens, documents, status, created, ...); anything for JSON.

    Returns:
        Over (filter, intervention): every estimator of `statistics.estimators`, `count`, `documents`, `threshold`;
        over (filter, in_layer) `layer_*`, over (filter,) `pooled_*`, all interventions together; with lines also
        `repair_by_*` and `largest_repair*`. The axis `intervention` has the coordinates `layer`, `head`, `kind` and
        `name`, see `results.intervention_axis`.
        Estimates come with `_standard_error`, `_low` and `_high` (95%).
    """
    variables: dict[str, xr.Variable] = {}
    for name, estimate in summary.heads.items():
        variables |= _estimate(name, GRID, estimate, quantity_of(name))
    for name, estimate in summary.card.layers.items():
        variables |= _estimate(f"layer_{name}", GRID[:2], estimate, quantity_of(name))
    for name, estimate in summary.card.model.items():
        variables |= _estimate(f"pooled_{name}", GRID[:1], estimate, quantity_of(name))
    layers, heads = summary.count.shape[1:]
    coordinates: dict[str, tuple[str, np.ndarray]] = {
        "filter": ("filter", np.array(filters, object)),
        "layer": ("layer", np.arange(layers)),
        "head": ("head", np.arange(heads)),
    }
    if lines is not None:
        for name in lines.names:
            quantity, axes = COMPONENT[name]
            variables |= _estimate(name, GRID + axes, lines.estimate(name), quantity, dtype=np.float32)
            coordinates["by_layer"] = ("by_layer", np.arange(layers))
        if BY_HEAD in lines.names:
            coordinates["by_head"] = ("by_head", np.arange(variables[BY_HEAD].shape[-1]))
        variables |= _largest(variables, lines)
    variables |= _counts(summary, thresholds) | _verdicts(summary) | _curve(curve, edges)
    coordinates["bin"] = ("bin", np.arange(len(curve.value)))
    if donor_split is not None and donors_needed is not None:
        variables |= _donor_split(donor_split, donors_needed)
    notes = plain_attributes(attributes) | {"intervals": INTERVALS_NOTE, "schema": SCHEMA}
    return flat(xr.Dataset(variables, coordinates, notes), cells)


def plain_attributes(attributes: Mapping[str, object]) -> dict[str, str | int | float]:
    """Attributes as netCDF holds them: text and numbers stay, `None` is `none`, the rest JSON."""
    plain: dict[str, str | int | float] = {}
    for name, value in attributes.items():
        if isinstance(value, np.generic):
            value = value.item()
        if value is None:
            plain[name] = "none"
        elif isinstance(value, bool):
            plain[name] = str(value).lower()
        elif isinstance(value, str):
            plain[name] = readable(value)
        elif isinstance(value, int | float):
            plain[name] = value
        else:
            plain[name] = json.dumps(value, default=str)
    return plain


def _estimate(
    name: str,
    axes: tuple[str, ...],
    estimate: Estimate,
    quantity: Quantity,
    dtype: type[np.floating] = np.float64,
) -> dict[str, xr.Variable]:
    values = (estimate.value, estimate.standard_error, estimate.low, estimate.high)
    suffixes = ("", ", standard error", ", lower end of the 95% interval", ", upper end of the 95% interval")
    variables = {}
    for part, value, suffix in zip(PARTS, values, suffixes, strict=True):
        notes = {"units": quantity.units, "long_name": quantity.long_name + suffix}
        description = quantity.description if not part else f"of {name}; over documents. {quantity.description}"
        variables[name + part] = xr.Variable(axes, value.astype(dtype), notes | {"description": description})
    return variables


def _largest(variables: Mapping[str, xr.Variable], lines: Lines) -> dict[str, xr.Variable]:
    """The component that repairs most for each head, with an interval that allows for the choosing."""
    attention = BY_HEAD if BY_HEAD in lines.names else BY_ATTENTION
    cells = lines.documents.shape
    across = variables[BY_HEAD].shape[-1] if attention == BY_HEAD else 0

    def components(part: str) -> np.ndarray:
        both = [variables[name + part].values.reshape(*cells, -1) for name in (attention, BY_MLP)]
        return np.concatenate(both, -1).astype(np.float64)

    repairer = largest(components(""), components("_standard_error"), lines.freedom)
    names = [f"attention {layer}" for layer in range(cells[1])]
    if attention == BY_HEAD:
        names = [f"L{layer}H{head}" for layer in range(cells[1]) for head in range(across)]
    named = np.array([*names, *(f"MLP {layer}" for layer in range(cells[1])), ""], object)[repairer.place]
    what = "the component with the largest mean self-repair for this head, where that is above zero"
    end = f"end of a 95% interval that allows for its being the largest of all (statistics/largest.py); {what}"
    descriptions = (
        f"name of {what}",
        f"mean of {what}",
        f"lower {end}",
        f"upper {end}",
        f"of how many components; {what}",
    )
    arrays = (named, repairer.value, repairer.low, repairer.high, repairer.among)
    units = ("", "logit", "logit", "logit", "1")
    return {
        name: xr.Variable(
            GRID, values, {"units": unit, "long_name": name.replace("_", " "), "description": description}
        )
        for name, values, unit, description in zip(LARGEST, arrays, units, descriptions, strict=True)
    }


def _counts(summary: Summary, thresholds: np.ndarray) -> dict[str, xr.Variable]:
    def variable(axes: tuple[str, ...], values: np.ndarray, long_name: str, text: str, units: str = "1") -> xr.Variable:
        return xr.Variable(axes, values, {"units": units, "long_name": long_name, "description": text})

    limit = "clean direct effect from which (top) or up to which (bottom) a token of this head passes"
    pairs = "(head, token) pairs that pass the filter, all heads together"
    return {
        "count": variable(GRID, summary.count, "tokens", "tokens of this head that pass the filter"),
        "documents": variable(GRID, summary.documents, "documents", "documents that these tokens come from"),
        "threshold": variable(GRID, np.asarray(thresholds, np.float64), "threshold of the filter", limit, "logit"),
        "pooled_count": variable(GRID[:1], summary.count.sum((1, 2)), "(head, token) pairs", pairs),
        "pooled_documents": variable(
            GRID[:1], summary.documents.max((1, 2)), "documents", "most documents that any head's tokens come from"
        ),
    }


def _verdicts(summary: Summary) -> dict[str, xr.Variable]:
    q_note = (
        "Benjamini-Hochberg adjusted p-value, over the heads of this filter, of the two-sided t test that self_repair "
        f"is not zero and the size of lost_direct_effect above {LabelRule().negligible:g}. At q <= {RATE:g} the label "
        f"is repaired where they have the same sign, amplified where not; false discovery rate {100 * RATE:g}%."
    )
    return {
        "label": xr.Variable(
            GRID, summary.labels.astype(object), {"long_name": "label", "description": LabelRule().describe()}
        ),
        "q_value": xr.Variable(
            GRID,
            summary.q_values,
            {"units": "1", "long_name": "q-value of the model's reaction", "description": q_note},
        ),
        "effective_documents": xr.Variable(
            GRID,
            summary.effective_documents,
            {
                "units": "1",
                "long_name": "effective documents",
                "description": "(sum n)^2 / sum n^2 over documents: how many equally full ones the tokens amount to",
            },
        ),
    }


def _curve(curve: Estimate, edges: np.ndarray) -> dict[str, xr.Variable]:
    """Self-repair as a curve over quantiles of direct effect."""
    quantity = Quantity(
        "self-repair by quantile of direct effect",
        "logit",
        "mean self_repair of the tokens in each of equally full bins of the head's clean direct effect, lowest first; "
        "errors linearised over documents, those of the bins' edges included.",
    )
    notes = {"units": "logit", "long_name": "edges of bins", "description": "clean direct effect between bins"}
    lower = np.concatenate([np.full((*edges.shape[:2], 1), -np.inf), edges], -1)
    return _estimate("curve_self_repair", ("bin", *GRID[1:]), curve, quantity) | {
        "curve_lower_edge": xr.Variable(("bin", *GRID[1:]), np.moveaxis(lower, -1, 0), notes)
    }


def _donor_split(split: VarianceSplit, needed: np.ndarray) -> dict[str, xr.Variable]:
    note = (
        f"donors per window with which donors make up at most {100 * DONOR_SHARE:g}% of the variance of the mean "
        "self-repair over all tokens of this run's documents"
    )
    text = "part of the variance of a token's self-repair, all tokens: between {}"
    parts = {
        "document": (split.document, "documents"),
        "token": (split.token, "tokens of a document"),
        "donor": (split.donor, "donors of a token"),
    }
    wanted = xr.Variable(GRID[1:], needed, {"units": "1", "long_name": "donors needed", "description": note})
    return {"donors_needed": wanted} | {
        f"variance_{name}": xr.Variable(
            GRID[1:],
            values,
            {"units": "squared logit", "long_name": f"variance between {of}", "description": text.format(of)},
        )
        for name, (values, of) in parts.items()
    }
