"""`windows.parquet`: the corpus of a run, token by token, so that any number can be recomputed elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from selfrepair.reading import parsed_json
from selfrepair.results.size_limits import bounded_batches, require_room
from selfrepair.text import Windows
from selfrepair.text.document_sources import source_in_words

_NAMES, _PROVENANCE, _POSITIONS = b"document_names", b"provenance", b"positions"
_PART = 1024  # windows in memory at once as a table


def windows_parts(
    windows: Windows, donors: np.ndarray, more: Mapping[bytes, bytes] | None = None
) -> Iterator[pa.Table]:
    """Windows and their donors as a table, part by part; one part at least.

    Args:
        windows: the corpus.
        donors: [window, donor] donor windows.
        more: further entries for the schema's metadata.

    Yields:
        One row per window: `window`, `document` (names, usually one), `length`, `tokens`, `token_documents` (indices
        into the names of all documents, which are in the schema's metadata), `donors`.
    """
    notes = {
        _NAMES: json.dumps(windows.names),
        _PROVENANCE: json.dumps(windows.provenance),
        _POSITIONS: str(windows.length),
        **(more or {}),
    }
    for start in range(0, max(1, len(windows)), _PART):
        rows = range(start, min(start + _PART, len(windows)))
        yield _part(windows, donors, rows).replace_schema_metadata(notes)


def _part(windows: Windows, donors: np.ndarray, rows: range) -> pa.Table:
    inside = [windows.documents[i, : windows.lengths[i]] for i in rows]
    names = [[windows.names[document] for document in dict.fromkeys(row.tolist())] for row in inside]
    return pa.table(
        {
            "window": pa.array(rows, pa.int64()),
            "document": pa.array(names, pa.list_(pa.string())),
            "length": pa.array(windows.lengths[rows.start : rows.stop], pa.int64()),
            "tokens": pa.array([windows.tokens[i, : windows.lengths[i]] for i in rows], pa.list_(pa.int32())),
            "token_documents": pa.array(inside, pa.list_(pa.int32())),
            "donors": pa.array(donors[rows.start : rows.stop].tolist(), pa.list_(pa.int64())),
        }
    )


def joined_names(texts: Sequence[Windows]) -> list[tuple[str, ...]]:
    """Names of the documents of each text; names of several texts get the text's number if they clash."""
    names = [text.names for text in texts]
    if len({name for of_text in names for name in of_text}) == sum(map(len, names)):
        return names
    return [tuple(f"text {number}: {name}" for name in of_text) for number, of_text in enumerate(names)]


def joined_windows(texts: Sequence[Windows], donors: Sequence[np.ndarray]) -> tuple[Windows, np.ndarray]:
    """Several texts of windows of one length as one, and their donors; texts and their documents stay in order.

    Args:
        texts: the corpora.
        donors: [window, donor] donor windows of each.
    """
    names = joined_names(texts)
    starts_of_names = np.cumsum([0, *map(len, names)])
    starts = np.cumsum([0, *map(len, texts)])
    documents = [
        np.where(text.documents < 0, -1, text.documents + first_name).astype(np.int32)
        for text, first_name in zip(texts, starts_of_names[:-1], strict=True)
    ]
    whole = Windows(
        np.concatenate([text.tokens for text in texts]),
        np.concatenate([text.lengths for text in texts]),
        np.concatenate(documents),
        tuple(name for of_text in names for name in of_text),
        {"source": " + ".join(source_in_words(text.provenance) for text in texts)},
    )
    return whole, np.concatenate([of_text + start for of_text, start in zip(donors, starts[:-1], strict=True)])


def read_corpus(content: BinaryIO) -> tuple[Windows, np.ndarray]:
    """Windows and donors [window, donor] back from a file of `windows_parts`; the fingerprint stays the same."""
    with pq.ParquetFile(content) as file:
        windows, notes = file.metadata.num_rows, file.schema_arrow.metadata
    require_room(content, 8 * windows * int(notes[_POSITIONS]), "windows")
    return _corpus(bounded_batches(content, _PART), windows, notes)


def windows_of(table: pa.Table) -> tuple[Windows, np.ndarray]:
    """The same from a table in memory."""
    return _corpus(table.to_batches(_PART), table.num_rows, table.schema.metadata)


def _corpus(parts: Iterable[pa.RecordBatch], windows: int, notes: Mapping[bytes, bytes]) -> tuple[Windows, np.ndarray]:
    shape = (windows, int(notes[_POSITIONS]))
    tokens, documents = np.zeros(shape, np.int32), np.full(shape, -1, np.int32)
    lengths, donors, end = np.zeros(shape[0], np.int32), [], 0
    for part in parts:
        start, end = end, end + part.num_rows
        lengths[start:end] = part["length"].to_numpy()
        real = np.arange(shape[1]) < lengths[start:end, None]
        tokens[start:end][real] = part["tokens"].flatten().to_numpy()
        documents[start:end][real] = part["token_documents"].flatten().to_numpy()
        donors.append(np.array(part["donors"].to_pylist(), np.int64).reshape(part.num_rows, -1))
    names = tuple(parsed_json(notes[_NAMES]))
    return Windows(tokens, lengths, documents, names, parsed_json(notes[_PROVENANCE])), np.concatenate(donors)
