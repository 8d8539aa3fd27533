"""What a prompt file holds, before it is known whose format it is: rows, or one document. Sizes are not believed."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from selfrepair.errors import SelfRepairError
from selfrepair.pages import pages, require_pages, row_groups
from selfrepair.reading import JSON_BYTES, JSON_VALUES, parsed_json, read_bytes
from selfrepair.text.document import file_name

_CELL = 2**20  # bytes of a value of a table
_TABLE = 2**28  # bytes of all values of a Parquet file
_NODES = 2**16  # of a YAML document, which configures and holds no data
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".yaml", ".yml", ".npz")

Row = dict[str, Any]


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        path: the file.
        name: its name, without its folder.
        sha256: of its bytes (hex).
        suffix: its kind, `.csv`.
        rows: of a table or of lines of JSON; a list of objects in a JSON document counts as such.
        document: what a JSON or YAML file holds that is no list of objects; or arrays by name.
    """

    path: Path
    name: str
    sha256: str
    suffix: str
    rows: list[Row] = field(default_factory=list)
    document: Any = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the first row's values."""
        return tuple(self.rows[0]) if self.rows else ()


def load_content(path: Path) -> Content:
    """Reads a file.

    Raises:
        SelfRepairError: there is none, its kind is unknown, or it is damaged or larger than prompts can be.
    """
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise SelfRepairError(
            f"{path} is a file of an unknown kind.",
            f"Prompts are read from {', '.join(SUFFIXES)}. Pickles (.pkl, .pt) are never read: they run code.",
        )
    try:
        content = read_bytes(path, JSON_BYTES)
        parsed = _READERS[suffix](content)
    except FileNotFoundError:
        raise SelfRepairError(f"There is no file {path}.", "Give the file that holds the prompts.") from None
    except (OSError, ValueError, RecursionError, csv.Error, pa.ArrowException) as problem:
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise SelfRepairError(f"{path} cannot be read: {reason}.", "It may be damaged: fetch it again.") from problem
    table = isinstance(parsed, list) and all(isinstance(row, dict) for row in parsed)
    return Content(
        path=path,
        name=file_name(path),
        sha256=hashlib.sha256(content).hexdigest(),
        suffix=suffix,
        rows=parsed if table else [],
        document=None if table else parsed,
    )


def _json(content: bytes) -> Any:
    return parsed_json(content.removeprefix(b"\xef\xbb\xbf"))


def _json_lines(content: bytes) -> list[Row]:
    rows, left = [], JSON_VALUES
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = parsed_json(line, left)
        except json.JSONDecodeError as problem:
            raise ValueError(f"line {number} is not valid JSON: {problem}") from None
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no JSON object")
        left -= sum(map(line.count, (b"[", b"{", b",", b":")))
        if left < 0:
            raise ValueError(f"it has more than {JSON_VALUES:,} values")
        rows.append(row)
    return rows


def _table(separator: str) -> Callable[[bytes], list[Row]]:
    def read(content: bytes) -> list[Row]:
        text = content.decode("utf-8-sig")
        if text.count(separator) > JSON_VALUES:
            raise ValueError(f"it has more than {JSON_VALUES:,} values")
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        header = next(lines, [])
        if len(set(header)) < len(header):
            raise ValueError("two of its columns have the same name")
        rows = []
        for values in lines:
            if values and len(values) != len(header):
                raise ValueError(f"line {lines.line_num} has {len(values)} values and the header {len(header)}")
            if values:
                rows.append(dict(zip(header, values, strict=True)))
        return rows

    return read


def _parquet(content: bytes) -> list[Row]:
    file = io.BytesIO(content)
    groups = row_groups(file)
    for columns in groups:
        require_pages(file, "the file", columns, longest=_CELL)
        for column in columns:
            if sum(page.values for page in pages(file, column)) > JSON_VALUES:
                raise ValueError(f"it has more than {JSON_VALUES:,} values")
    rows: list[Row] = []
    with pq.ParquetFile(file, pre_buffer=False) as table:
        if table.num_row_groups != len(groups):
            raise ValueError("its description of row groups is damaged")
        rows.extend(row for batch in _batches(table) for row in batch.to_pylist())
    return rows


def _batches(table: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """A few rows at a time: a few bytes may stand for any number of equal texts."""
    size = 0
    for batch in table.iter_batches(batch_size=16, use_threads=False):
        size += batch.nbytes
        if size > _TABLE:
            raise ValueError(f"its values take more than {_TABLE / 2**20:g} MiB")
        yield batch


def _yaml(content: bytes) -> Any:
    import yaml  # comes with transformers

    try:
        text = content.decode("utf-8")
        tokens = yaml.scan(text)
        for number, token in enumerate(tokens):
            if number > _NODES:
                raise ValueError(f"it has more than {_NODES:,} parts")
            if isinstance(token, yaml.AliasToken):
                raise ValueError("it has aliases, which may stand for any amount")
        return yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise ValueError(f"it is not valid YAML: {problem}") from None


def _arrays(content: bytes) -> dict[str, Any]:
    """Arrays of an .npz file, without pickles, none larger than files of its size can be."""
    import zipfile

    arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            for name in packed.namelist():
                with packed.open(name) as member:
                    unpacked = member.read(JSON_BYTES + 1)
                if len(unpacked) > JSON_BYTES:
                    raise ValueError(f"its array {name!r} is larger than {JSON_BYTES / 2**20:g} MiB")
                arrays[name.removesuffix(".npy")] = np.load(io.BytesIO(unpacked), allow_pickle=False)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as problem:
        raise ValueError(f"it is no archive of arrays: {problem}") from None
    return arrays


_READERS: dict[str, Callable[[bytes], Any]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".csv": _table(","),
    ".tsv": _table("\t"),
    ".parquet": _parquet,
    ".yaml": _yaml,
    ".yml": _yaml,
    ".npz": _arrays,
}
