"""The schema of results: axes and types of every variable and column, checked when files are read."""

from __future__ import annotations

import pyarrow as pa
import xarray as xr

from selfrepair.errors import SelfRepairError
from selfrepair.results.intervention_axis import AXIS, LAYERS, require_axis
from selfrepair.results.quantities import COMPONENT, LARGEST, PARTS, QUANTITY
from selfrepair.statistics.accumulate import QUANTITIES
from selfrepair.statistics.keep import TOKEN_SCHEMA
from selfrepair.statistics.pooled import CARD

SCHEMA = 2
CELL = ("filter", AXIS)
WINDOW_COLUMNS = ("window", "document", "length", "tokens", "donors")


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
        version = heads.attrs.get("schema", "none")
        raise SelfRepairError(
            f"The dataset has schema {version}; this version of selfrepair reads schema {SCHEMA}.",
            "Open it with the version of selfrepair that wrote it.",
        )
    expected: dict[str, tuple[str, ...]] = {
        name + part: CELL for name in (*QUANTITIES, "lost_direct_effect", "repaired_fraction") for part in PARTS
    }
    expected |= dict.fromkeys(("count", "documents", "threshold", "label", "q_value", "effective_documents"), CELL)
    expected |= {f"pooled_{name}{part}": CELL[:1] for name in CARD for part in PARTS}
    expected |= {f"layer_{name}{part}": (CELL[0], LAYERS) for name in CARD for part in PARTS}
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
    if "filter" not in heads.coords:
        raise SelfRepairError("The dataset has no coordinate 'filter'.", "Run the measurement again.")
    require_axis(heads)


def check_tokens(schema: pa.Schema) -> None:
    """Refuse a table of kept tokens with missing columns or wrong types.

    Raises:
        SelfRepairError: naming the column.
    """
    for field in TOKEN_SCHEMA:
        _column(schema, field.name)
        if schema.field(field.name).type != field.type:
            actual = schema.field(field.name).type
            raise SelfRepairError(f"Column {field.name!r} holds {actual}, not {field.type}.")


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
