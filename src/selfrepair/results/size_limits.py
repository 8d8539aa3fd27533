"""Limits on the memory that results files may take, by their size on disk: sizes named in files are not trusted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from selfrepair.errors import SelfRepairError
from selfrepair.pages import ColumnChunk, pages, require_pages, row_groups
from selfrepair.reading import JSON_BYTES, parsed_json

_ROOM = 2**28  # bytes in memory that any file may take
_EXPANSION = 256  # times its size that a larger file may take
_BATCH = 2**26  # bytes of text that are in memory at once, however often a row group refers to the same
_ROWS = 2**16
_BYTES = 8  # of a value
_LONGEST = 2**16  # bytes of a name or token


def bounded_batches(
    file: BinaryIO, rows: int = _ROWS, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file, some at a time.

    Args:
        file: the file.
        rows: how many at a time, at most; fewer if texts are long.
        columns: which columns; all by default.

    Raises:
        ValueError: it would take more memory than files of its size do.
    """
    most, total, groups = _most(file), 0, row_groups(file)
    with pq.ParquetFile(file, pre_buffer=False) as table:
        if table.num_row_groups != len(groups):
            raise ValueError("its description of row groups is damaged")
        for group in range(len(groups)):
            for column in groups[group]:  # a few bytes may stand for any number of equal ones, in one row
                require_room(file, _BYTES * sum(page.values for page in pages(file, column)), "a column")
            largest = _largest_page(file, groups[group])
            step = max(1, min(rows, _BATCH // max(largest, 1)))
            for batch in table.iter_batches(
                step, row_groups=[group], columns=None if columns is None else list(columns)
            ):
                total += sum(_size(column) for column in batch.columns)
                if total > most:
                    raise _too_much(f"more than {most:,} bytes of values")
                yield batch


def bounded_table(file: BinaryIO) -> pa.Table:
    """A whole table, see `bounded_batches`."""
    with pq.ParquetFile(file) as table:
        schema = table.schema_arrow
    return pa.Table.from_batches(bounded_batches(file), schema)


def require_room(file: BinaryIO, size: int, what: str) -> None:
    """Refuses arrays of that many bytes, where a file of this size cannot fill them.

    Raises:
        ValueError: saying so.
    """
    if size > _most(file):
        raise _too_much(f"{what} of {size:,} bytes")


def bounded_json(file: BinaryIO, **options: Any) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: it is larger than a plan or an outcome can be, not UTF-8, not JSON, or nested too deeply.
    """
    content = file.read(JSON_BYTES + 1)
    if len(content) > JSON_BYTES:
        raise _too_much(f"more than {JSON_BYTES:,} bytes of JSON")
    return parsed_json(content, **options)


def _largest_page(file: BinaryIO, columns: Sequence[ColumnChunk]) -> int:
    try:
        return require_pages(file, "the table", columns, longest=_LONGEST)
    except SelfRepairError as problem:
        raise ValueError(problem.problem) from None


def _size(column: pa.Array) -> int:
    """Bytes of a column; of one that refers to a dictionary, of the references."""
    return int(column.indices.nbytes if isinstance(column, pa.DictionaryArray) else column.nbytes)


def _most(file: BinaryIO) -> int:
    position = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(position)
    return max(_ROOM, _EXPANSION * size)


def _too_much(what: str) -> ValueError:
    return ValueError(f"it names {what}, which a file of its size cannot hold")
