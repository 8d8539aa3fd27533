"""Optional tables of a run for looking at single tokens: token texts, passages and close-ups."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pyarrow as pa

from selfrepair.errors import SelfRepairError
from selfrepair.statistics.accumulate import QUANTITIES

MLP, MIXER, FIRST_PART = -1, -2, -3  # stand for the head where a repairer is none; part n of an MLP is FIRST_PART - n

_TOKENS, _NUMBERS = pa.list_(pa.int32()), pa.list_(pa.float32())
SCHEMAS: dict[str, pa.Schema] = {
    "vocabulary": pa.schema([("token", pa.int32()), ("bytes", pa.binary())]),
    "passages": pa.schema(
        [
            ("layer", pa.int16()),
            ("head", pa.int16()),
            ("window", pa.int32()),
            ("position", pa.int32()),
            *((name, pa.float32()) for name in QUANTITIES),
        ]
    ),
    "closeups": pa.schema(
        [
            ("layer", pa.int16()),
            ("head", pa.int16()),
            ("window", pa.int32()),
            ("position", pa.int32()),
            ("total_effect", pa.float32()),
            ("tokens_before", _TOKENS),
            ("logprobs_before", _NUMBERS),
            ("tokens_after", _TOKENS),
            ("logprobs_after", _NUMBERS),
            ("target_logprob_before", pa.float32()),
            ("target_logprob_after", pa.float32()),
            ("repairer_layers", _TOKENS),
            ("repairer_heads", _TOKENS),
            ("repairer_effects", _NUMBERS),
            ("attending_layer", pa.int16()),
            ("attending_head", pa.int16()),
            ("attended_positions", _TOKENS),
            ("attention_before", _NUMBERS),
            ("attention_after", _NUMBERS),
        ]
    ),
}
DESCRIPTIONS = {
    "vocabulary": "Bytes of every token that the run's texts and close-ups name.",
    "passages": "Every scored token of a few windows, for every head, with its whole ledger (means over donors).",
    "closeups": (
        "Tokens looked at closely, with the first donor where there are several: the ten most likely next tokens "
        "before and after the ablation (natural log probabilities), the components whose direct effect changed most "
        f"(logits; head {MLP}: the layer's MLP, {MIXER}: its mixer, {FIRST_PART} - n: part n of an MLP that writes "
        "with several modules), and what the head that repaired most attended to."
    ),
}


@dataclass(frozen=True)
class Extras:
    """Optional tables of a run; None for what it does not have.

    Attributes:
        vocabulary: `token, bytes`.
        passages: a few whole windows, every scored token for every head.
        closeups: a few tokens of every head, with what the model predicted and attended to.
    """

    vocabulary: pa.Table | None = None
    passages: pa.Table | None = None
    closeups: pa.Table | None = None

    def tables(self) -> dict[str, pa.Table]:
        """The tables that the run has, by name."""
        tables = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: table for name, table in tables.items() if table is not None}


def described(name: str, table: pa.Table) -> pa.Table:
    """The table in its schema, with a description."""
    return table.cast(SCHEMAS[name].with_metadata({"description": DESCRIPTIONS[name]}))


def check_extra(name: str, table: pa.Table) -> None:
    """Refuse a table that does not fit its schema.

    Raises:
        SelfRepairError: naming the column.
    """
    for field in SCHEMAS[name]:
        if field.name not in table.column_names:
            raise SelfRepairError(f"The table has no column {field.name!r}.", "Resume the run: it is made again.")
        actual = table.schema.field(field.name).type
        if actual != field.type and not (pa.types.is_list(actual) and actual.value_type == field.type.value_type):
            raise SelfRepairError(f"Column {field.name!r} holds {actual}, not {field.type}.")
