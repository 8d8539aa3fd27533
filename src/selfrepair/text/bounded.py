"""Reads only as much of a text as is asked for; sizes named in files are not trusted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from selfrepair.errors import SelfRepairError
from selfrepair.pages import require_pages, row_groups
from selfrepair.reading import open_regular

LEAST = 2**20  # characters of a document that are read, however few tokens are asked for
PER_TOKEN = 16  # characters that are read for each token that is asked for; a token has about four
LONGEST = 16 * 2**20  # bytes of a line or of a row; JSON takes ten times as much in memory
_BYTES = 4  # bytes of a character, at most
_BUFFER = 2**20
_BLANK = 2**20  # lines


def characters_for(tokens: int | None) -> int | None:
    """How many characters of a document are read, to draw this many tokens from it; None for all."""
    return None if tokens is None else max(LEAST, PER_TOKEN * tokens)


def cut_short(text: str, most: int | None) -> str:
    """The beginning of a text, if it is longer than that."""
    return text if most is None or len(text) <= most else text[:most]


def beginning(path: Path, most: int | None) -> str:
    """The beginning of a file of text.

    Args:
        path: the file.
        most: characters that are wanted; None for all.

    Raises:
        SelfRepairError: it is no regular file.
        OSError: it cannot be read.
        UnicodeDecodeError: it is not UTF-8.
    """
    with open_regular(path) as file:
        content = file.read(-1 if most is None else _BYTES * (most + 1))
        whole = not file.read(1)
    return _decoded(content, whole, "utf-8-sig")


def column_texts(path: Path, field: str, most: int | None) -> Iterator[str | None]:
    """Texts of a column of a Parquet file, one at a time: a few bytes may refer to one text over and over.

    Args:
        path: the file.
        field: a column of texts.
        most: characters of a text that are wanted, at least; None for all.

    Raises:
        SelfRepairError: a page that decompresses to far more than is sensible.
        OSError, pyarrow.ArrowException, ValueError: it cannot be read.
    """
    with open_regular(path) as content:
        groups = row_groups(content)
        with pq.ParquetFile(content, buffer_size=_BUFFER, pre_buffer=False) as file:
            if file.num_row_groups != len(groups):
                raise ValueError("its description of row groups is damaged")
            for group in range(len(groups)):
                require_pages(content, str(path), groups[group], field, LONGEST)
                for batch in file.iter_batches(batch_size=1, row_groups=[group], columns=[field], use_threads=False):
                    yield _text(batch.column(0), most)


def _text(column: pa.Array, most: int | None) -> str | None:
    scalar = column[0]
    if isinstance(scalar, pa.DictionaryScalar):
        scalar = scalar.value
    if not scalar.is_valid:
        return None
    content = scalar.as_buffer()
    wanted = content.size if most is None else min(content.size, _BYTES * (most + 1))
    return _decoded(content.slice(0, wanted).to_pybytes(), wanted == content.size, "utf-8")


def _decoded(content: bytes, whole: bool, encoding: str) -> str:
    """Bytes as text; a character that was cut in two at the end is left out, unless the text ends there."""
    if not whole:
        for back in range(1, min(_BYTES, len(content)) + 1):
            if content[-back] & 0xC0 != 0x80:  # where the last character begins
                content = content[:-back]
                break
    return content.decode(encoding)


def require_lines(blank: int, path: Path) -> None:
    """Refuses a file with more blank lines in a row than anybody writes.

    Raises:
        SelfRepairError: the file has that many.
    """
    if blank > _BLANK:
        raise SelfRepairError(
            f"{path} has more than {_BLANK:,} blank lines in a row.", "Is it the right file? Take the lines out."
        )
