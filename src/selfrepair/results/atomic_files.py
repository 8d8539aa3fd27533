"""Files that are written whole or not at all, and tables that go to disk part by part."""

from __future__ import annotations

import errno
import io
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from selfrepair.errors import SelfRepairError
from selfrepair.results.proven import BLOCK, Bytes, Digests, Hasher


class Writing(io.RawIOBase):
    """A file that is being written, from the first byte to the last, and hashed on its way.

    Args:
        file: the file to write to.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hasher = file, Hasher(BLOCK)

    def writable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def write(self, content: Any) -> int:
        """See `io.RawIOBase`."""
        with memoryview(content) as view:
            self._hasher.update(view)
            self._file.write(view)
            return view.nbytes

    def tell(self) -> int:
        """See `io.IOBase`."""
        return self._file.tell()

    def flush(self) -> None:
        """See `io.IOBase`."""
        if not self._file.closed:
            self._file.flush()

    def digests(self) -> Digests:
        """Digests of what has been written; nothing may be written after this."""
        return self._hasher.digests()


_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS)  # errors of disks that cannot flush a folder


@contextmanager
def putting(path: Path) -> Iterator[Writing]:
    """A file to write to, under a temporary name in the same folder; put in its place at the end.

    Raises:
        SelfRepairError: the disk is full, or the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            yield Writing(file)
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
    """Makes names that were given, changed or removed in a folder survive a power cut, if the disk supports that.

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
    new = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for parent in new:
        sync_folder(parent.parent)


def put(path: Path, content: Bytes) -> Digests:
    """Writes a whole file, see `putting`; returns what proves it."""
    with putting(path) as file:
        file.write(content)
    return file.digests()


@dataclass
class TableFile:
    """A table in a Parquet file that is being written part by part.

    Attributes:
        add: adds a part, a row group.
        digests: what proves the file, once it is whole.
    """

    add: Callable[[pa.Table], None]
    digests: Digests | None = None


@contextmanager
def putting_table(path: Path, schema: pa.Schema) -> Iterator[TableFile]:
    """A table in a Parquet file to which parts are added, each a row group: none stays in memory.

    Raises:
        SelfRepairError: the disk is full, or the folder cannot be written to.
    """
    with putting(path) as file:
        writer = pq.ParquetWriter(file, schema, compression="zstd")
        try:
            table = TableFile(writer.write_table)
            yield table
        except BaseException:
            with suppress(OSError):
                writer.close()
            raise
        writer.close()
        table.digests = file.digests()


def cannot(verb: str, path: Path, problem: OSError) -> SelfRepairError:
    """The error to raise if a file could not be written."""
    if problem.errno == errno.ENOSPC:
        fix = "Free some space, or give a folder on another disk with --out."
        return SelfRepairError(f"The disk is full: cannot {verb} {path}.", fix)
    return SelfRepairError(f"Cannot {verb} {path}: {first_line(problem)}.", "Give another folder with --out.")


def first_line(problem: Exception) -> str:
    """The first line of an exception's message; its type if it has none."""
    return next(iter(str(problem).splitlines()), type(problem).__name__)
