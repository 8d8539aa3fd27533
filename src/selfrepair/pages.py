"""Checks the declared sizes of pages of Parquet files before a library allocates memory for them."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from selfrepair.errors import SelfRepairError

LARGEST = 128 * 2**20  # bytes of a page; writers aim at one MiB
_VALUES = 2**28  # of a page
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 11, 12
_BYTE_ARRAY = 6  # the type of texts
_FIRST, _HEADER = 2**12, 2**20  # bytes of a page's header, and with long statistics
_FOOTER = 2**26  # bytes of a file's description
_DEPTH = 8


@dataclass(frozen=True)
class ColumnChunk:
    """The values of a column in a row group, by where they lie in the file.

    Attributes:
        path: its name; of nested ones, parts joined by dots.
        is_bytes: whether its values may have any length.
        start: where its first page begins.
        end: behind its last page.
    """

    path: str
    is_bytes: bool
    start: int
    end: int


@dataclass(frozen=True)
class Page:
    """A page's header.

    Attributes:
        size: bytes, decompressed.
        stored: bytes in the file.
        values: number of values.
    """

    size: int
    stored: int
    values: int


def row_groups(file: BinaryIO) -> list[list[ColumnChunk]]:
    """The columns of every row group, from the end of a Parquet file.

    Read here and not by pyarrow, which aborts the process over some damaged files when it is asked for a column.

    Raises:
        ValueError: the file does not end as a Parquet file does.
        OSError: it cannot be read.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 8))
    length, magic = struct.unpack("<I4s", file.read(8).rjust(8, b"\0"))
    if magic != b"PAR1" or length > min(size - 8, _FOOTER):
        raise ValueError("it does not end as a Parquet file does")
    file.seek(size - 8 - length)
    try:
        footer = _Header(file.read(length)).struct()
        return [[_column(chunk, size) for chunk in group[1]] for group in footer.get(4, [])]
    except (IndexError, KeyError, TypeError, AttributeError, ValueError):
        raise ValueError("its description of columns is damaged") from None


def _column(chunk: dict[int, Any], size: int) -> ColumnChunk:
    about = chunk[3]
    path = b".".join(about[3]).decode("utf-8", "replace")
    starts = [start for start in (about[9], about.get(11)) if start]
    end = min(starts) + about[7]
    if not 0 <= min(starts) <= end <= size:
        raise ValueError("a column outside of the file")
    return ColumnChunk(path, about[1] == _BYTE_ARRAY, min(starts), end)


def require_pages(
    file: BinaryIO, name: str, columns: Sequence[ColumnChunk], only: str | None = None, longest: int = LARGEST
) -> int:
    """Refuses pages that are larger than any writer makes: a few kilobytes may decompress to gigabytes.

    Args:
        file: the file.
        name: name of the file, for messages.
        columns: columns of a row group.
        only: the column that is going to be read; None for all.
        longest: bytes of a value, at most; judged by a page's values together.

    Returns:
        Bytes of the largest page whose values may have any length.

    Raises:
        SelfRepairError: naming the column.
        ValueError: a page that goes on behind the end of the file.
        OSError: the file cannot be read.
    """
    largest = 0
    for column in columns:
        if only is None or only in (column.path, column.path.split(".")[0]):
            size = _largest(file, name, column, longest)
            largest = max(largest, size if column.is_bytes else 0)
    return largest


def _largest(file: BinaryIO, name: str, column: ColumnChunk, longest: int) -> int:
    """Bytes of a column's largest page."""
    largest = 0
    for page in pages(file, column):
        if page.size > LARGEST or page.values > _VALUES:
            raise SelfRepairError(
                f"Column {column.path!r} of {name} has a page of {page.size / 2**20:,.0f} MiB "
                f"and {page.values:,} values; at most {LARGEST / 2**20:g} MiB and {_VALUES:,} are read.",
                "Write it again with smaller pages, or split longer texts into several rows.",
            )
        if page.size > longest * max(page.values, 1) + _HEADER:
            raise SelfRepairError(
                f"Column {column.path!r} of {name} has values of more than {longest / 2**20:g} MiB.",
                "Split longer texts into several rows.",
            )
        largest = max(largest, page.size)
    return largest


def pages(file: BinaryIO, column: ColumnChunk) -> Iterator[Page]:
    """The pages of a column of a row group, by their headers; ends at anything else than a header.

    Raises:
        ValueError: a page that goes on behind the end of the file.
    """
    offset, whole = column.start, file.seek(0, os.SEEK_END)
    while offset < column.end:
        file.seek(offset)
        header = _Header(file.read(_FIRST))
        try:
            fields = header.struct()
        except IndexError:  # statistics may be long
            file.seek(offset)
            header = _Header(file.read(_HEADER))
            try:
                fields = header.struct()
            except (IndexError, ValueError):
                return  # the library will not get further either
        except ValueError:
            return
        size, stored = fields.get(2), fields.get(3)
        if not isinstance(size, int) or not isinstance(stored, int) or size < 0 or stored < 0:
            return
        if offset + header.place + stored > whole:
            raise ValueError("a page larger than its file")
        inner = [fields[number] for number in (5, 7, 8) if isinstance(fields.get(number), dict)]
        counts = [values.get(1) for values in inner]
        yield Page(size, stored, max([count for count in counts if isinstance(count, int)], default=0))
        offset += header.place + stored


class _Header:
    """Thrift's compact protocol, as far as Parquet uses it."""

    def __init__(self, content: bytes) -> None:
        self.content, self.place = content, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Fields by number."""
        if depth > _DEPTH:
            raise ValueError("nested too deep")
        fields: dict[int, Any] = {}
        last = 0
        while (head := self._byte()) & 0x0F != _STOP:
            last = last + (head >> 4) if head >> 4 else self._zigzag()
            fields[last] = self._value(head & 0x0F, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind == _BYTE:
            return self._byte()
        if kind < _DOUBLE:
            return self._zigzag()
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind in (_LIST, _SET):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint()
            if count > len(self.content):
                raise ValueError("a list longer than the header")
            return [self._value(head & 0x0F, depth + 1) for _ in range(count)]
        if kind == _STRUCT:
            return self.struct(depth + 1)
        raise ValueError(f"a value of the type {kind}")

    def _byte(self) -> int:
        self.place += 1
        return self.content[self.place - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value
            if shift > 70:
                raise ValueError("a number too long")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _bytes(self, length: int) -> bytes:
        if length > len(self.content) - self.place:
            raise IndexError
        self.place += length
        return self.content[self.place - length : self.place]
