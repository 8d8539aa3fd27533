"""Pages of Parquet files: how large they say they are, looked up before a library makes room for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from selfrepair.errors import SelfRepairError

LARGEST = 128 * 2**20  # bytes of a page; writers aim at one MiB
_VALUES = 2**28  # of a page
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 11, 12
_HEADER = 2**20  # bytes of a page's header, with statistics
_DEPTH = 8


@dataclass(frozen=True)
class Page:
    """What a page's header says.

    Attributes:
        size: bytes, decompressed.
        stored: bytes in the file.
        values: how many values it holds.
    """

    size: int
    stored: int
    values: int


def require_pages(
    file: BinaryIO, name: str, group: Any, columns: Sequence[str] | None = None, longest: int = LARGEST
) -> int:
    """Refuses pages that are larger than any writer makes: a few kilobytes may decompress to gigabytes.

    Args:
        file: the file.
        name: what to call it.
        group: a row group, `pyarrow.parquet.RowGroupMetaData`.
        columns: which columns, by the first part of their path; None for all.
        longest: bytes of a value, at most; told from a page's values together.

    Returns:
        Bytes of the largest page that holds text or other values of any length.

    Raises:
        SelfRepairError: naming the column.
        OSError: the file cannot be read.
    """
    largest = 0
    for number in range(group.num_columns):
        column = group.column(number)
        if columns is None or column.path_in_schema.split(".")[0] in columns or column.path_in_schema in columns:
            found = _largest(file, name, column, longest)
            largest = max(largest, found if column.physical_type == "BYTE_ARRAY" else 0)
    return largest


def _largest(file: BinaryIO, name: str, column: Any, longest: int) -> int:
    """Bytes of a column's largest page."""
    largest = 0
    for page in pages(file, column):
        if page.size > LARGEST or page.values > _VALUES:
            raise SelfRepairError(
                f"Column {column.path_in_schema!r} of {name} has a page of {page.size / 2**20:,.0f} MiB "
                f"and {page.values:,} values; at most {LARGEST / 2**20:g} MiB and {_VALUES:,} are read.",
                "Write it again with smaller pages, or split longer texts into several rows.",
            )
        if page.size > longest * max(page.values, 1) + _HEADER:
            raise SelfRepairError(
                f"Column {column.path_in_schema!r} of {name} has values of more than {longest / 2**20:g} MiB.",
                "Split longer texts into several rows.",
            )
        largest = max(largest, page.size)
    return largest


def pages(file: BinaryIO, column: Any) -> Iterator[Page]:
    """The pages of a column chunk, by their headers; ends where something is there that is no header.

    Args:
        file: the file.
        column: `pyarrow.parquet.ColumnChunkMetaData`.
    """
    starts = [start for start in (column.dictionary_page_offset, column.data_page_offset) if start]
    if not starts or min(starts) < 0:
        return
    place, end = min(starts), min(starts) + column.total_compressed_size
    while place < end:
        file.seek(place)
        header = _Header(file.read(_HEADER))
        try:
            fields = header.struct()
        except (IndexError, ValueError):
            return  # the library will not get further either
        size, stored = fields.get(2), fields.get(3)
        if not isinstance(size, int) or not isinstance(stored, int) or size < 0 or stored < 0:
            return
        inner = [fields[number] for number in (5, 7, 8) if isinstance(fields.get(number), dict)]
        counts = [one.get(1) for one in inner]
        yield Page(size, stored, max([count for count in counts if isinstance(count, int)], default=0))
        place += header.place + stored


class _Header:
    """Thrift's compact protocol, as far as page headers use it."""

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
            return self._skip(8)
        if kind == _BINARY:
            return self._skip(self._varint())
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

    def _skip(self, length: int) -> None:
        if length > len(self.content) - self.place:
            raise IndexError
        self.place += length
