"""Reading files of unknown origin: only regular ones, and never more than was asked for."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any

from selfrepair.errors import SelfRepairError

JSON_BYTES = 64 * 2**20  # plans, outcomes and configurations take kilobytes
JSON_VALUES = 2**22  # the tokenizers with the largest vocabularies have two million
_DEPTH = 100  # levels of brackets within each other; ours have fewer than ten
_MARKS = "[{,:"  # one at least for each value
_STRINGS = re.compile(r'"[^"\\]*(?:\\.?[^"\\]*)*"?', re.DOTALL)  # to the end where they have none: always in one go
_BRACKETS = re.compile(r"[\[\]{}]")
_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind_of(mode: int) -> str | None:
    """The kind of a path in words, by its mode; None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    return next((words for test, words in _KINDS if test(mode)), "no regular file")


def require_regular(path: Path) -> int:
    """Refuses what is not a regular file; opening a pipe or a device may block forever, or never end.

    Returns:
        The file's size in bytes.

    Raises:
        SelfRepairError: a folder, pipe, socket or device.
        OSError: the path does not exist, or is not accessible.
    """
    status = path.stat()
    kind = kind_of(status.st_mode)
    if kind is not None:
        raise SelfRepairError(f"{path} is {kind}; a regular file was expected.", "Give a file, or remove it.")
    return status.st_size


def open_regular(path: Path) -> BufferedReader:
    """Opens a regular file for reading; what is something else by the time it is opened is refused, never waited for.

    Raises:
        SelfRepairError: as `require_regular`.
        OSError: it cannot be opened.
    """
    require_regular(path)
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    file = os.fdopen(number, "rb")
    kind = kind_of(os.fstat(number).st_mode)
    if kind is not None:
        file.close()
        raise SelfRepairError(f"{path} is {kind}; a regular file was expected.", "Give a file, or remove it.")
    return file


def read_bytes(path: Path, most: int) -> bytes:
    """A file's content.

    Args:
        path: the file.
        most: bytes that it may have at most.

    Raises:
        SelfRepairError: a larger file, or no regular one.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise SelfRepairError(
            f"{path} is larger than {most / 2**20:g} MiB, more than a file of its kind can be.",
            "It is damaged, or not what its name suggests; take it again.",
        )
    return content


def read_json(path: Path, most: int = JSON_BYTES, **options: Any) -> Any:
    """The content of a JSON file.

    Args:
        path: the file.
        most: bytes that it may have at most.
        options: options of `json.loads`.

    Raises:
        SelfRepairError: a larger file, or no regular one.
        OSError: it cannot be read.
        ValueError: it is not UTF-8, not JSON, or nested beyond reason.
    """
    return parsed_json(read_bytes(path, most), **options)


def parsed_json(text: str | bytes, most: int = JSON_VALUES, **options: Any) -> Any:
    """The content of JSON text.

    Args:
        text: the JSON; bytes are UTF-8.
        most: values that it may have.
        options: options of `json.loads`.

    Raises:
        ValueError: it is not UTF-8, not JSON, nested beyond reason, or has more values.
    """
    text = text.decode("utf-8") if isinstance(text, bytes) else text
    _require_sensible(text, most)
    return json.loads(text, **options)


def _require_sensible(text: str, most: int) -> None:
    """Refuses JSON that is nested beyond reason, which exhausts the reader's stack, or that has so many values
    that they take far more memory than the text: an empty list takes three bytes there, and sixty here.

    Raises:
        ValueError: it is.
    """
    marks = sum(map(text.count, _MARKS))
    if marks <= most and sum(map(text.count, "[{")) <= _DEPTH:
        return
    bare = _STRINGS.sub("", text)
    marks = sum(map(bare.count, _MARKS))
    if marks > most:
        raise ValueError(f"it has {marks:,} brackets, commas and colons; at most {most:,} are read")
    depth = 0
    for bracket in _BRACKETS.finditer(bare):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > _DEPTH:
            raise ValueError(f"it is nested more than {_DEPTH} levels deep")
