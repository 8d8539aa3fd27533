"""Files whose bytes are compared with their digests as they are read.

A digest of a whole file proves it at the moment of hashing, but nothing about what is read later. So files carry
a digest for every block: a reader takes a block, hashes it, and hands out bytes of that same block. Any part of a large
file can be read alone, at the price of hashing the blocks it lies in, and nothing is read twice to be sure of it.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from selfrepair.errors import SelfRepairError
from selfrepair.reading import open_regular

Bytes = bytes | bytearray | memoryview
SHORT = 32  # hex digits of a sha256 that names and blocks carry: 128 bits
BLOCK = 2**18  # bytes of a results file with a digest of their own
_KEPT = 8  # blocks of a file that are remembered: readers of tables come back to the same ones


class Damaged(SelfRepairError):
    """A file that is gone, cut short, or not what was written.

    Args:
        path: the file.
        problem: what is wrong with it, in a sentence that names it.
        fix: the usual way out.
    """

    def __init__(self, path: Path, problem: str, fix: str = "") -> None:
        super().__init__(problem, fix)
        self.args = (path, problem, fix)
        self.path = path


@dataclass(frozen=True)
class Digests:
    """Digests of a sequence of bytes, block by block.

    Attributes:
        size: bytes in all.
        block: bytes in a block; the last one may be shorter.
        blocks: the first `SHORT` hex digits of each block's sha256.
        whole: the sha256 of all of it, as `sha256sum` prints it; empty where nobody needs it.
    """

    size: int
    block: int
    blocks: tuple[str, ...]
    whole: str = ""

    @classmethod
    def of(cls, content: Bytes, block: int) -> Digests:
        """Digests of bytes in memory."""
        view = memoryview(content)
        starts = range(0, len(view), block)
        return cls(len(view), block, tuple(short_digest(view[start : start + block]) for start in starts))

    def __post_init__(self) -> None:
        if self.size < 0 or self.block < 1 or len(self.blocks) != -(-self.size // self.block):
            raise ValueError("the digests do not cover the file")


class Hasher:
    """Digests of bytes that come one after the other.

    Args:
        block: bytes in a block.
    """

    def __init__(self, block: int) -> None:
        self._block, self._size, self._blocks = block, 0, list[str]()
        self._whole, self._part = hashlib.sha256(), hashlib.sha256()

    def update(self, content: Bytes) -> None:
        """Adds bytes."""
        view = memoryview(content).cast("B")
        self._whole.update(view)
        while len(view):
            here = view[: self._block - self._size % self._block]
            self._part.update(here)
            self._size += len(here)
            view = view[len(here) :]
            if self._size % self._block == 0:
                self._close_block()

    def _close_block(self) -> None:
        self._blocks.append(self._part.hexdigest()[:SHORT])
        self._part = hashlib.sha256()

    def digests(self) -> Digests:
        """Digests of all bytes; none may be added after this."""
        if self._size % self._block:
            self._close_block()
        return Digests(self._size, self._block, tuple(self._blocks), self._whole.hexdigest())


@dataclass(frozen=True)
class Stored:
    """A file with its digests, if it has any.

    Attributes:
        path: the file.
        digests: what it has to hold; None for one that is only being made.
        fix: what to do if it does not hold that.
    """

    path: Path
    digests: Digests | None = None
    fix: str = ""

    @classmethod
    def as_it_is(cls, path: Path) -> Stored:
        """With the digests of what the file holds now, so that all that is read of it later is of one content.

        Raises:
            Damaged: it is gone, or cannot be read.
        """
        hasher = Hasher(BLOCK)
        with opened(path) as file:
            while content := file.read(BLOCK):
                hasher.update(content)
        return cls(path, hasher.digests())

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The file to read from.

        Raises:
            Damaged: it is gone, or not what was written; also while it is read.
        """
        try:
            with opened(self.path) if self.digests is None else ProvenFile(self.path, self.digests) as file:
                yield cast(BinaryIO, file)
        except Damaged as problem:
            raise Damaged(problem.path, problem.problem, problem.fix or self.fix) from None

    def check(self) -> None:
        """Reads everything once.

        Raises:
            Damaged: it is gone, or not what was written.
        """
        with self.open() as file:
            while file.read(BLOCK):
                pass


def short_digest(content: Bytes) -> str:
    """The first `SHORT` hex digits of the sha256 of some bytes."""
    return hashlib.sha256(content).hexdigest()[:SHORT]


class ProvenFile(io.RawIOBase):
    """A file that hands out no byte that has not been compared with its digest.

    Args:
        path: the file.
        digests: what its bytes from `start` on have to be.
        start: where these bytes begin; what comes before is proven otherwise.

    Raises:
        Damaged: on opening, where the size is another; on reading, where a block is not what was written.
    """

    def __init__(self, path: Path, digests: Digests, start: int = 0) -> None:
        self._path, self._digests, self._start, self._position = path, digests, start, 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._file = opened(path)
        size = os.fstat(self._file.fileno()).st_size - start
        if size != digests.size:
            self._file.close()
            raise self._damaged(f"it has {size + start:,} bytes, and {digests.size + start:,} were written")

    def span(self, low: int, high: int) -> bytearray:
        """Bytes `low` to `high`, counted from `start`, in memory of their own."""
        content = bytearray()
        if not 0 <= low <= high <= self._digests.size:
            raise ValueError(f"{low} to {high} lies outside of {self._digests.size} bytes")
        for number in range(low // self._digests.block, -(-high // self._digests.block) if high > low else 0):
            begin = number * self._digests.block
            content += memoryview(self._block(number))[max(0, low - begin) : high - begin]
        return content

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        begin = number * self._digests.block
        try:
            self._file.seek(self._start + begin)
            content = self._file.read(min(self._digests.block, self._digests.size - begin))
        except OSError as problem:
            raise self._damaged(str(problem)) from problem
        if short_digest(content) != self._digests.blocks[number]:
            raise self._damaged("its content is not what was written")
        self._blocks[number] = content
        if len(self._blocks) > _KEPT:
            self._blocks.popitem(last=False)
        return content

    def _damaged(self, why: str) -> Damaged:
        return Damaged(self._path, f"{self._path} is damaged: {why}.")

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`."""
        view = memoryview(buffer).cast("B")
        end = min(self._position + len(view), self._digests.size)
        content = self.span(self._position, max(end, self._position))
        view[: len(content)] = content
        self._position += len(content)
        return len(content)

    def readall(self) -> bytes:
        """See `io.RawIOBase`."""
        start, self._position = self._position, self._digests.size
        return bytes(self.span(min(start, self._position), self._position))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """See `io.IOBase`."""
        self._position = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._digests.size}[whence] + offset
        return self._position

    def tell(self) -> int:
        """See `io.IOBase`."""
        return self._position

    def readable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def seekable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def close(self) -> None:
        """See `io.IOBase`."""
        self._file.close()
        super().close()


def opened(path: Path) -> BinaryIO:
    """A file to read from; never a pipe or a device, which might not end.

    Raises:
        Damaged: it is gone, is no file, or cannot be read.
    """
    try:
        return open_regular(path)
    except SelfRepairError as problem:
        raise Damaged(path, problem.problem, problem.fix) from None
    except FileNotFoundError:
        raise Damaged(path, f"{path} is gone.") from None
    except OSError as problem:
        raise Damaged(path, f"{path} cannot be read: {problem.strerror or problem}.") from problem
