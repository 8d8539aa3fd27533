"""Documents from local files: plain text, JSON lines (plain or compressed), parquet."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from selfrepair.choices import TEXT_FORMATS
from selfrepair.errors import SelfRepairError
from selfrepair.reading import parsed_json
from selfrepair.registry import Registry
from selfrepair.text.bounded import LONGEST, beginning, column_texts, require_lines
from selfrepair.text.document import Document, file_name, valid_text

Reader = Callable[[Path, str, int | None], Iterator[Document]]
FORMATS: Registry[Reader] = TEXT_FORMATS
"""By suffix, what reads such files: called with the file, the field or column that holds the text, and how many
characters of a document are wanted (None for all)."""
LONGEST_LINE = LONGEST  # bytes, decompressed
_VALUES = 2**19  # bytes of a line, beside its text

_ZSTD_WINDOW = 128  # MiB, the largest that is read: a reader must hold it in memory
_CHUNK = 2**20


def file_documents(path: Path, field: str, fix: str, most: int | None = None) -> Iterator[Document]:
    """The documents of one file, by its suffix.

    Args:
        path: an existing file.
        field: the field or column that holds the text.
        fix: what to tell the user of a file of an unknown kind.
        most: characters of a document that are wanted; None for all.

    Raises:
        SelfRepairError: at once when the suffix is unknown; later when the file is damaged or a row has no
            text.
    """
    named = [suffix for suffix in suffixes() if path.name.lower().endswith(suffix)]
    if not named:
        raise SelfRepairError(f"{path} is a file of an unknown kind.", fix)
    return FORMATS[max(named, key=len).removeprefix(".")](path, field, most)


def suffixes() -> tuple[str, ...]:
    """Of the files that can be read: `.txt`, `.jsonl.gz`, ..."""
    return tuple(f".{name}" for name in FORMATS)


def folder_documents(folder: Path, most: int | None = None) -> Iterator[Document]:
    """One document for each `.txt` file right inside `folder`, sorted by name.

    Raises:
        SelfRepairError: the folder holds no `.txt` file.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".txt" and path.is_file())
    if not paths:
        raise SelfRepairError(
            f"The folder {folder} holds no .txt file.",
            f"Put .txt files in it, one document each, or name one file ({', '.join(suffixes())}).",
        )
    return (document for path in paths for document in text_documents(path, "", most))


def text_documents(path: Path, _field: str, most: int | None) -> Iterator[Document]:
    """The file as one document; none when it holds only white space."""
    try:
        # bytes, not text mode: line ends stay as they are, as in the other formats
        text = beginning(path, most)
    except UnicodeDecodeError as error:
        raise SelfRepairError(
            f"{path} is not UTF-8: {error.reason} at byte {error.start}.", "Save it as UTF-8."
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from error
    if text.strip():
        yield Document.cut(file_name(path), text, most)


def json_documents(path: Path, field: str, most: int | None) -> Iterator[Document]:
    """One document a line; blank lines are passed over but counted."""
    blank = 0
    for number, line in enumerate(_lines(path), start=1):
        blank = 0 if line.strip() else blank + 1
        require_lines(blank, path)
        if not blank:
            row_name = f"line {number} of {path}"
            yield Document.cut(f"{file_name(path)}:{number}", _text_of(line, row_name, field), most)


def _text_of(line: bytes, row_name: str, field: str) -> str:
    """The text in one line of JSON."""
    fix = "Each line must be one JSON object; write the file again, or cut the bad line out."
    start = line.removeprefix(b"\xef\xbb\xbf").strip()
    if start.startswith(b"[") or start == b"{":
        how = "-c '.[]'" if start.startswith(b"[") else "-c ."
        fix = f"Each line must be one JSON object: jq {how} FILE > lines.jsonl writes the file like that."
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SelfRepairError(
            f"{_begin(row_name)} is not UTF-8: {error.reason} at byte {error.start}.",
            "Save the file as UTF-8; if it is compressed, its name has to end in .gz or .zst.",
        ) from None
    try:
        row = parsed_json(text, _VALUES, object_pairs_hook=_Pairs)
    except (json.JSONDecodeError, RecursionError) as error:
        raise SelfRepairError(f"{_begin(row_name)} is not valid JSON: {error}.", fix) from None
    except ValueError as error:  # too much or too deep
        raise SelfRepairError(f"{_begin(row_name)} cannot be read: {error}.", fix) from None
    if not isinstance(row, _Pairs):
        raise SelfRepairError(f"{_begin(row_name)} is JSON, but no object.", fix)
    values = [value for name, value in row if name == field]
    if not values:
        raise _no_field(row_name, field, [name for name, _ in row])
    if len(values) > 1:
        raise _several(row_name, field, len(values))
    return valid_text(dict(values[0]) if isinstance(values[0], _Pairs) else values[0], row_name, field)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as pairs of name and value: names need not be different."""


def _opened(file: BinaryIO, path: Path) -> AbstractContextManager[Any]:
    """The file, decompressed by its suffix. Python's gzip also takes several members, and zeros behind the last."""
    lowered = path.name.lower()
    if lowered.endswith(".gz"):
        return gzip.open(file)
    packed = "zstd" if lowered.endswith(".zst") else None
    stream: AbstractContextManager[Any] = pa.input_stream(file, compression=packed)
    return stream


def _lines(path: Path) -> Iterator[bytes]:
    """Lines of a file, decompressed on the way, without their newline."""
    number = 1
    pieces: list[bytes] = []
    size = 0
    try:
        with path.open("rb") as file, _opened(file, path) as stream:  # opened here: pyarrow takes no odd names
            while chunk := stream.read(_CHUNK):
                pieces.append(chunk)
                size += len(chunk)
                if b"\n" in chunk:
                    *lines, rest = b"".join(pieces).split(b"\n")
                    pieces, size = [rest], len(rest)
                    for line in lines:
                        _check_line(len(line), number, path)
                        yield line
                        number += 1
                _check_line(size, number, path)
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    if size:
        yield b"".join(pieces)


def _check_line(size: int, number: int, path: Path) -> None:
    if size > LONGEST_LINE:
        raise SelfRepairError(
            f"Line {number} of {path} is longer than {LONGEST_LINE / 2**20:g} MiB.",
            "Split the text into more documents, one a line.",
        )


def parquet_documents(path: Path, field: str, most: int | None) -> Iterator[Document]:
    """One document a row, reading no column but `field`."""
    try:
        with path.open("rb") as opened, pq.ParquetFile(opened) as file:
            _check_column(file.schema_arrow, path, field)
        for number, value in enumerate(column_texts(path, field, most), start=1):
            text = valid_text(value, f"row {number} of {path}", field)
            yield Document.cut(f"{file_name(path)}:{number}", text, most)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _check_column(schema: pa.Schema, path: Path, field: str) -> None:
    if field not in schema.names:
        raise _no_field(str(path), field, schema.names)
    if schema.names.count(field) > 1:
        raise _several(str(path), field, schema.names.count(field))
    kind = schema.field(field).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise SelfRepairError(
            f"Texts were expected in the column {field!r} of {path}; it is of type {kind}.",
            "Name the column that holds the text with --field.",
        )


def _no_field(row_name: str, field: str, present: list[str]) -> SelfRepairError:
    shown = ", ".join(repr(name[:40]) for name in present[:10]) or "none"
    return SelfRepairError(
        f"There is no field {field!r} in {row_name}; the fields there: {shown}.",
        "Name the field that holds the text with --field.",
    )


def _several(row_name: str, field: str, number: int) -> SelfRepairError:
    return SelfRepairError(
        f"There are {number} fields {field!r} in {row_name}, so it is not clear which holds the text.",
        "Give them different names, and name the one that holds the text with --field.",
    )


def _unreadable(path: Path, error: Exception) -> SelfRepairError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "too much memory" in reason:  # so zstd says that a frame's window is beyond its limit
        return SelfRepairError(
            f"{path} cannot be read: it was compressed with a window of more than {_ZSTD_WINDOW} MiB (zstd --long).",
            f"Compress it again: zstd -d --long=31 -c {path.name} | zstd -o smaller-window.jsonl.zst",
        )
    return SelfRepairError(f"{path} cannot be read: {reason}", "The file may be damaged or cut short: fetch it again.")


def _begin(row_name: str) -> str:
    return row_name[0].upper() + row_name[1:]
