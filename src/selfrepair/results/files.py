"""Files that are written whole or not at all, and tables that go to disk part by part."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from selfrepair.errors import SelfRepairError

_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS)  # of disks that cannot flush a folder


@contextmanager
def putting(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, under a temporary name in the same folder; put in its place at the end.

    Raises:
        SelfRepairError: the disk is full, or the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as problem:
        raise cannot("write", path, problem) from problem
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes names that were given, changed or removed in a folder outlast a power cut; where the disk can do that.

    Raises:
        OSError: the disk is full, or failing.
    """
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:  # a system or disk that opens no folders
        return
    try:
        os.fsync(number)
    except OSError as problem:
        if problem.errno not in _NO_SYNC:
            raise
    finally:
        os.close(number)


def make_folder(folder: Path) -> None:
    """Makes a folder that may exist, and those above it, and makes that last; see `sync_folder`.

    Raises:
        OSError: it cannot be made.
    """
    new = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in new:
        sync_folder(one.parent)


def put(path: Path, content: bytes | memoryview) -> None:
    """Writes a whole file, see `putting`."""
    with putting(path) as file:
        file.write(content)


@contextmanager
def putting_table(path: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """A function that adds parts to a table in a Parquet file, each a row group: none stays in memory.

    Raises:
        SelfRepairError: the disk is full, or the folder cannot be written to.
    """
    with putting(path) as file:
        writer = pq.ParquetWriter(file, schema, compression="zstd")
        try:
            yield writer.write_table
        except BaseException:
            with suppress(OSError):
                writer.close()
            raise
        writer.close()


def cannot(verb: str, path: Path, problem: OSError) -> SelfRepairError:
    """What to raise where a file could not be written."""
    if problem.errno == errno.ENOSPC:
        fix = "Free some space, or give a folder on another disk with --out."
        return SelfRepairError(f"The disk is full: cannot {verb} {path}.", fix)
    return SelfRepairError(f"Cannot {verb} {path}: {first_line(problem)}.", "Give another folder with --out.")


def first_line(problem: Exception) -> str:
    """The first line of what an exception says; its kind where it says nothing."""
    return next(iter(str(problem).splitlines()), type(problem).__name__)
