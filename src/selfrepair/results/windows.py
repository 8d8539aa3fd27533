"""`windows.parquet`: the corpus of a run, token by token, so that any number can be recomputed elsewhere."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from selfrepair.text import Windows

_NAMES, _PROVENANCE, _POSITIONS = b"document_names", b"provenance", b"positions"


def windows_table(windows: Windows, donors: np.ndarray) -> pa.Table:
    """Windows and their donors as a table.

    Args:
        windows: the corpus.
        donors: [window, donor] donor windows.

    Returns:
        One row per window: `window`, `document` (names, usually one), `length`, `tokens`, `token_documents` (places
        in the names of all documents, which are in the schema's metadata), `donors`.
    """
    rows = range(len(windows))
    inside = [windows.documents[i, : windows.lengths[i]] for i in rows]
    names = [[windows.names[document] for document in dict.fromkeys(row.tolist())] for row in inside]
    table = pa.table(
        {
            "window": pa.array(rows, pa.int64()),
            "document": pa.array(names, pa.list_(pa.string())),
            "length": pa.array(windows.lengths, pa.int64()),
            "tokens": pa.array([windows.tokens[i, : windows.lengths[i]] for i in rows], pa.list_(pa.int64())),
            "token_documents": pa.array(inside, pa.list_(pa.int64())),
            "donors": pa.array(donors.tolist(), pa.list_(pa.int64())),
        }
    )
    return table.replace_schema_metadata(
        {
            _NAMES: json.dumps(windows.names),
            _PROVENANCE: json.dumps(windows.provenance),
            _POSITIONS: str(windows.length),
        }
    )


def windows_of(table: pa.Table) -> tuple[Windows, np.ndarray]:
    """Windows and donors [window, donor] back from `windows_table`; the fingerprint stays the same."""
    notes = table.schema.metadata
    lengths = table["length"].to_numpy()
    shape = (table.num_rows, int(notes[_POSITIONS]))
    real = np.arange(shape[1]) < lengths[:, None]
    tokens, documents = np.zeros(shape, np.int64), np.full(shape, -1, np.int64)
    tokens[real] = table["tokens"].combine_chunks().flatten().to_numpy()
    documents[real] = table["token_documents"].combine_chunks().flatten().to_numpy()
    donors = np.array(table["donors"].to_pylist(), np.int64).reshape(shape[0], -1)
    names = tuple(json.loads(notes[_NAMES]))
    return Windows(tokens, lengths, documents, names, json.loads(notes[_PROVENANCE])), donors
