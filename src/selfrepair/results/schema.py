"""The one list of what results hold: names, units, formulas, signs; and the dataset built from the sums."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xarray as xr

from selfrepair.effects.lines import LINES
from selfrepair.errors import SelfRepairError
from selfrepair.statistics.accumulate import BY_ATTENTION, BY_HEAD, BY_MLP, QUANTITIES
from selfrepair.statistics.component_lines import Lines
from selfrepair.statistics.donor_variance import DONOR_SHARE, VarianceSplit
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.estimators import ESTIMATORS
from selfrepair.statistics.keep import TOKEN_SCHEMA
from selfrepair.statistics.labels import LabelRule
from selfrepair.statistics.largest import largest
from selfrepair.statistics.pooled import CARD
from selfrepair.statistics.reaction import RATE
from selfrepair.statistics.summary import Summary
from selfrepair.terminal import readable

SCHEMA = 1
INTERVALS_NOTE = (
    "Standard errors and 95% intervals are over documents, from a bootstrap that applies the filter again in each "
    "replicate; those of lines of components (repair_by_*) are linearised, the threshold's own error included. Ratios "
    "have Fieller's interval, -inf to inf where the denominator may be zero. In simulations they hold the true number "
    "93 to 97% of the time, with the exceptions that docs/coverage.md lists: fewer than 20 documents (more often), and "
    "heavy tails, with which filtered means, squared correlations and the largest repairer are held 79 to 92% of the "
    "time. Ratios with ends whose denominator is in truth next to zero have them by chance, and are held less often."
)


@dataclass(frozen=True)
class Quantity:
    """One number per (head, token): its long name, unit, formula and what its sign means."""

    long_name: str
    units: str
    description: str


QUANTITY: dict[str, Quantity] = {
    "direct_effect": Quantity(
        "clean direct effect",
        "logit",
        "u . write / sigma: what the head's write by itself adds to the target's centred logit, clean run. "
        "Positive: the head helps the target.",
    ),
    "ablated_direct_effect": Quantity(
        "direct effect of the replacement",
        "logit",
        "u . replacement / sigma, at the clean sigma: what stands in for the head's write by itself adds.",
    ),
    "total_effect": Quantity(
        "total effect of the ablation",
        "logit",
        "centred logit of the target, ablated minus clean. Negative: the ablation hurt.",
    ),
    "self_repair": Quantity(
        "self-repair",
        "logit",
        "total_effect - (ablated_direct_effect - direct_effect): change of the logit beyond the head's own. "
        "Positive: the rest of the model made up for a loss (or added to a gain).",
    ),
    **{line.quantity: Quantity(line.title, line.units, line.text) for line in LINES},
    "sigma_ratio": Quantity(
        "scale of the final norm, clean / ablated",
        "1",
        "sigma / sigma'. Above 1: the ablated residual stream is smaller, and every logit is scaled up.",
    ),
}
LOST = Quantity(
    "lost direct effect",
    "logit",
    "direct_effect - ablated_direct_effect: what there is to repair; the denominator of repaired_fraction.",
)
REPAIRED = Quantity(
    "repaired fraction",
    "1",
    "sum of self_repair / sum of (direct_effect - ablated_direct_effect): a ratio of sums over tokens, not a "
    "mean of ratios. Its interval is infinite where lost_direct_effect may be zero: it may be anything then.",
)
COMPONENT: dict[str, tuple[Quantity, tuple[str, ...]]] = {
    BY_ATTENTION: (
        Quantity(
            "self-repair by the attention of each layer",
            "logit",
            "ablated minus clean direct effect of layer by_layer's attention, the ablated head left out.",
        ),
        ("by_layer",),
    ),
    BY_MLP: (
        Quantity(
            "self-repair by the MLP of each layer",
            "logit",
            "ablated minus clean direct effect of layer by_layer's MLP.",
        ),
        ("by_layer",),
    ),
    BY_HEAD: (
        Quantity(
            "self-repair by each head",
            "logit",
            "ablated minus clean direct effect of head (by_layer, by_head), the ablated head left out.",
        ),
        ("by_layer", "by_head"),
    ),
}
CELL = ("filter", "layer", "head")
LARGEST = ("largest_repairer", "largest_repair", "largest_repair_low", "largest_repair_high", "largest_repair_among")
PARTS = ("", "_standard_error", "_low", "_high")
WINDOW_COLUMNS = ("window", "document", "length", "tokens", "donors")


def quantity_of(name: str) -> Quantity:
    """What an estimator is, for files and tables."""
    special = {**QUANTITY, "lost_direct_effect": LOST, "repaired_fraction": REPAIRED}
    if name in special:
        return special[name]
    estimator = ESTIMATORS[name]
    return Quantity(name.replace("_", " "), estimator.units, estimator.description)


def heads_dataset(
    summary: Summary,
    filters: Sequence[str],
    thresholds: np.ndarray,
    lines: Lines | None,
    curve: Estimate,
    edges: np.ndarray,
    donor_split: VarianceSplit | None,
    donors_needed: np.ndarray | None,
    attributes: Mapping[str, object],
) -> xr.Dataset:
    """The dataset of `heads.nc`.

    Args:
        summary: every estimator with its interval.
        filters: labels of the filters.
        thresholds: [filter, layer, head].
        lines: lines of downstream components, where they were kept.
        curve: mean self-repair by bin of direct effect [bin, layer, head].
        edges: inner edges of these bins [layer, head, bin - 1].
        donor_split: variance of self-repair over documents, tokens and donors, with several donors.
        donors_needed: [layer, head], see `statistics.donors.donors_needed`, with several donors.
        attributes: what the run says about itself (title, operator, donors, model, text, engine, dtype,
            numerical_floor, ledger_residual, tokens, documents, status, created, ...); anything for JSON.

    Returns:
        Over (filter, layer, head): every estimator of `statistics.estimators`, `count`, `documents`, `threshold`;
        over (filter, layer) `layer_*`, over (filter,) `pooled_*`, all heads together; with lines also `repair_by_*`
        and `largest_repair*`.
        Estimates come with `_standard_error`, `_low` and `_high` (95%).
    """
    variables: dict[str, xr.Variable] = {}
    for name, estimate in summary.heads.items():
        variables |= _estimate(name, CELL, estimate, quantity_of(name))
    for name, estimate in summary.card.layers.items():
        variables |= _estimate(f"layer_{name}", CELL[:2], estimate, quantity_of(name))
    for name, estimate in summary.card.model.items():
        variables |= _estimate(f"pooled_{name}", CELL[:1], estimate, quantity_of(name))
    layers, heads = summary.count.shape[1:]
    coordinates: dict[str, tuple[str, np.ndarray]] = {
        "filter": ("filter", np.array(filters, object)),
        "layer": ("layer", np.arange(layers)),
        "head": ("head", np.arange(heads)),
    }
    if lines is not None:
        for name in lines.names:
            quantity, axes = COMPONENT[name]
            variables |= _estimate(name, CELL + axes, lines.estimate(name), quantity, dtype=np.float32)
            coordinates["by_layer"] = ("by_layer", np.arange(layers))
        if BY_HEAD in lines.names:
            coordinates["by_head"] = ("by_head", np.arange(variables[BY_HEAD].shape[-1]))
        variables |= _largest(variables, lines)
    variables |= _counts(summary, thresholds) | _verdicts(summary) | _curve(curve, edges)
    coordinates["bin"] = ("bin", np.arange(len(curve.value)))
    if donor_split is not None and donors_needed is not None:
        variables |= _donor_split(donor_split, donors_needed)
    notes = plain_attributes(attributes) | {"intervals": INTERVALS_NOTE, "schema": SCHEMA}
    return xr.Dataset(variables, coordinates, notes)


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


def described_tokens(table: pa.Table) -> pa.Table:
    """The same table, with units and description in the metadata of every field that is a quantity."""
    return table.cast(described_schema(table.schema))


def described_schema(schema: pa.Schema = TOKEN_SCHEMA) -> pa.Schema:
    """The schema of `tokens.parquet`, with units and description in the metadata of every field that is a quantity."""
    fields = []
    for field in schema:
        quantity = QUANTITY.get(field.name)
        if quantity is not None:
            notes = {"units": quantity.units, "description": quantity.description}
            field = field.with_metadata(notes)
        fields.append(field)
    return pa.schema(fields, schema.metadata)


def check_heads(heads: xr.Dataset) -> None:
    """Refuse a dataset that is not what `heads_dataset` makes.

    Raises:
        SelfRepairError: a variable that is missing, or has the wrong axes or type.
    """
    if heads.attrs.get("schema") != SCHEMA:
        found = heads.attrs.get("schema", "none")
        raise SelfRepairError(
            f"The dataset has schema {found}; this version of selfrepair reads schema {SCHEMA}.",
            "Open it with the version of selfrepair that wrote it.",
        )
    expected: dict[str, tuple[str, ...]] = {
        name + part: CELL for name in (*QUANTITIES, "lost_direct_effect", "repaired_fraction") for part in PARTS
    }
    expected |= dict.fromkeys(("count", "documents", "threshold", "label", "q_value", "effective_documents"), CELL)
    expected |= {f"pooled_{name}{part}": CELL[:1] for name in CARD for part in PARTS}
    expected |= {f"layer_{name}{part}": CELL[:2] for name in CARD for part in PARTS}
    expected |= dict.fromkeys(("pooled_count", "pooled_documents"), CELL[:1])
    lines = [name for name in COMPONENT if name in heads]
    expected |= {name + part: CELL + COMPONENT[name][1] for name in lines for part in PARTS}
    expected |= dict.fromkeys(LARGEST if lines else (), CELL)
    for name, axes in expected.items():
        if name not in heads:
            raise SelfRepairError(f"The dataset has no variable {name!r}.", "Run the measurement again.")
        if heads[name].dims != axes:
            raise SelfRepairError(f"Variable {name!r} has axes {heads[name].dims}, not {axes}.")
        integer = name.endswith(("count", "documents", "among"))
        kinds = "OUT" if name in ("label", LARGEST[0]) else "i" if integer else "f"
        if heads[name].dtype.kind not in kinds and name != "effective_documents":
            raise SelfRepairError(f"Variable {name!r} holds {heads[name].dtype}, not numbers of its kind.")
    for axis in CELL:
        if axis not in heads.coords:
            raise SelfRepairError(f"The dataset has no coordinate {axis!r}.", "Run the measurement again.")


def check_tokens(schema: pa.Schema) -> None:
    """Refuse a table of kept tokens with missing columns or wrong types.

    Raises:
        SelfRepairError: naming the column.
    """
    for field in TOKEN_SCHEMA:
        _column(schema, field.name)
        if schema.field(field.name).type != field.type:
            found = schema.field(field.name).type
            raise SelfRepairError(f"Column {field.name!r} holds {found}, not {field.type}.")


def check_windows(schema: pa.Schema) -> None:
    """Refuse a table of windows with missing columns, or tokens and donors that are not lists.

    Raises:
        SelfRepairError: naming the column.
    """
    for name in WINDOW_COLUMNS:
        _column(schema, name)
    kind = schema.field("tokens").type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        raise SelfRepairError(f"Column 'tokens' holds {kind}, not lists of token ids.")


def _column(schema: pa.Schema, name: str) -> None:
    if name not in schema.names:
        raise SelfRepairError(f"The table has no column {name!r}.", "Run the measurement again.")


def _estimate(
    name: str,
    axes: tuple[str, ...],
    estimate: Estimate,
    quantity: Quantity,
    dtype: type[np.floating] = np.float64,
) -> dict[str, xr.Variable]:
    values = (estimate.value, estimate.standard_error, estimate.low, estimate.high)
    says = ("", ", standard error", ", lower end of the 95% interval", ", upper end of the 95% interval")
    variables = {}
    for part, value, saying in zip(PARTS, values, says, strict=True):
        notes = {"units": quantity.units, "long_name": quantity.long_name + saying}
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

    found = largest(components(""), components("_standard_error"), lines.freedom)
    names = [f"attention {layer}" for layer in range(cells[1])]
    if attention == BY_HEAD:
        names = [f"L{layer}H{head}" for layer in range(cells[1]) for head in range(across)]
    named = np.array([*names, *(f"MLP {layer}" for layer in range(cells[1])), ""], object)[found.place]
    what = "the component with the largest mean self-repair for this head, where that is above zero"
    end = f"end of a 95% interval that allows for its being the largest of all (statistics/largest.py); {what}"
    says = (f"name of {what}", f"mean of {what}", f"lower {end}", f"upper {end}", f"of how many components; {what}")
    arrays = (named, found.value, found.low, found.high, found.among)
    units = ("", "logit", "logit", "logit", "1")
    return {
        name: xr.Variable(CELL, values, {"units": unit, "long_name": name.replace("_", " "), "description": say})
        for name, values, unit, say in zip(LARGEST, arrays, units, says, strict=True)
    }


def _counts(summary: Summary, thresholds: np.ndarray) -> dict[str, xr.Variable]:
    def variable(axes: tuple[str, ...], values: np.ndarray, long_name: str, text: str, units: str = "1") -> xr.Variable:
        return xr.Variable(axes, values, {"units": units, "long_name": long_name, "description": text})

    limit = "clean direct effect from which (top) or up to which (bottom) a token of this head passes"
    pairs = "(head, token) pairs that pass the filter, all heads together"
    return {
        "count": variable(CELL, summary.count, "tokens", "tokens of this head that pass the filter"),
        "documents": variable(CELL, summary.documents, "documents", "documents that these tokens come from"),
        "threshold": variable(CELL, np.asarray(thresholds, np.float64), "threshold of the filter", limit, "logit"),
        "pooled_count": variable(CELL[:1], summary.count.sum((1, 2)), "(head, token) pairs", pairs),
        "pooled_documents": variable(
            CELL[:1], summary.documents.max((1, 2)), "documents", "most documents that any head's tokens come from"
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
            CELL, summary.labels.astype(object), {"long_name": "label", "description": LabelRule().describe()}
        ),
        "q_value": xr.Variable(
            CELL,
            summary.q_values,
            {"units": "1", "long_name": "q-value of the model's reaction", "description": q_note},
        ),
        "effective_documents": xr.Variable(
            CELL,
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
    return _estimate("curve_self_repair", ("bin", *CELL[1:]), curve, quantity) | {
        "curve_lower_edge": xr.Variable(("bin", *CELL[1:]), np.moveaxis(lower, -1, 0), notes)
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
    wanted = xr.Variable(CELL[1:], needed, {"units": "1", "long_name": "donors needed", "description": note})
    return {"donors_needed": wanted} | {
        f"variance_{name}": xr.Variable(
            CELL[1:],
            values,
            {"units": "squared logit", "long_name": f"variance between {of}", "description": text.format(of)},
        )
        for name, (values, of) in parts.items()
    }
