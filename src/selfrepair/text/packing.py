"""Packs token ids of documents into rows: one document a row, or all documents joined and cut."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class PackedRows:
    """Rows of ids before a beginning-of-sequence token and padding are added.

    Attributes:
        ids: for each row, ids [token].
        owners: for each row, the index into `names` of each token's document [token].
        names: names of the documents that are in some row.
        read: how many documents were read.
        most: the most tokens that came together: of one document, or of all of them where they are joined.
    """

    ids: list[Ids]
    owners: list[Ids]
    names: tuple[str, ...]
    read: int
    most: int


def pack_apart(
    documents: Iterable[tuple[int, str, Ids]], size: int, least: int, wanted: int | None, seed: int
) -> PackedRows:
    """Cut each document on its own, and take rows round robin: one of each document, then a second.

    Reading stops at the document that makes one row each suffice. Which row of a document comes first is
    drawn by `seed`; a shorter last row of a document comes last. Rows of its copies come after that.

    Args:
        documents: a number that copies of a document have in common, its name, and its ids [token].
        size: tokens of a full row.
        least: the fewest tokens of a document's last row; shorter ones are dropped.
        wanted: how many rows; None for all.
        seed: seed of the draw.

    Returns:
        `wanted` rows, or fewer when there are not more.
    """
    names: list[str] = []
    rows: list[list[Ids]] = []
    index_of: dict[int, int] = {}
    read = most = 0
    for number, name, ids in documents:
        most = max(most, len(ids))
        cut = _cut(ids, size, least, seed, read)
        read += 1
        if cut and number not in index_of:
            index_of[number] = len(rows)
            names.append(name)
            rows.append(cut[:wanted])
        elif cut:
            rows[index_of[number]] += cut[:wanted]
        if wanted is not None and len(rows) >= wanted:
            break
    taken = [
        (owner, own[turn])
        for turn in range(max(map(len, rows), default=0))
        for owner, own in enumerate(rows)
        if turn < len(own)
    ][:wanted]
    owners = [np.full(len(ids), owner, dtype=np.int64) for owner, ids in taken]
    return PackedRows([ids for _, ids in taken], owners, tuple(names), read, most)


def pack_joined(documents: Iterable[tuple[int, str, Ids]], size: int, wanted: int | None) -> PackedRows:
    """Join all documents without separators and cut rows of `size` tokens; the last partial row is dropped.

    Args:
        documents: see `pack_apart`.
        size: tokens of a row.
        wanted: how many rows; None for all. Reading stops when they are full.

    Returns:
        `wanted` rows, or fewer when there are not more.
    """
    names: list[str] = []
    streams: list[Ids] = []
    index_of: dict[int, int] = {}
    owning: list[int] = []
    read = most = 0
    for number, name, ids in documents:
        read += 1
        most += len(ids)
        if len(ids):
            if number not in index_of:
                index_of[number] = len(names)
                names.append(name)
            owning.append(index_of[number])
            streams.append(ids)
        if wanted is not None and most >= wanted * size:
            break
    count = most // size if wanted is None else min(wanted, most // size)
    if count == 0:
        return PackedRows([], [], (), read, most)
    ids = np.concatenate(streams)[: count * size]
    owners = np.repeat(owning, [len(stream) for stream in streams])[: count * size]
    used = int(owners.max()) + 1
    rows, row_owners = list(ids.reshape(count, size)), list(owners.reshape(count, size))
    return PackedRows(rows, row_owners, tuple(names[:used]), read, most)


def _cut(ids: Ids, size: int, least: int, seed: int, document: int) -> list[Ids]:
    """Full rows in the drawn order, then the shorter last row if it is long enough."""
    full = len(ids) // size
    # a hash, not a generator: the order is the same with every version of numpy
    order = sorted(range(full), key=lambda row: hashlib.sha256(f"{seed}:{document}:{row}".encode()).digest())
    rows = [ids[row * size : (row + 1) * size] for row in order]
    tail = ids[full * size :]
    return [*rows, tail] if len(tail) >= least else rows
