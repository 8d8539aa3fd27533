"""Finds duplicate documents, which count as one: copies are not independent, and no copy is a donor for the other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import numpy as np

from selfrepair.text.document import Document
from selfrepair.text.packing import Ids, PackedRows

_NAMED = 5  # copies that are named in the provenance


def ids_digest(ids: Ids) -> bytes:
    """Digest of a row of token ids, 16 bytes."""
    return blake2b(ids.astype("<i8").tobytes(), digest_size=16).digest()


def text_digest(text: str) -> bytes:
    """Digest of a text, 16 bytes; the same for texts that differ in white space only."""
    return blake2b(" ".join(text.split()).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def duplicates_in_words(provenance: Mapping[str, object]) -> str:
    """Duplicates in words, from a text's provenance; empty if there are none."""
    duplicates = provenance.get("duplicates")
    if not isinstance(duplicates, dict):
        return ""
    documents, windows = duplicates["documents"], duplicates["windows"]
    parts = [f"{documents:,} of its documents duplicate others and count as one with them"] if documents else []
    parts += [f"{windows:,} windows have the tokens of another"] if windows else []
    return ", ".join(parts)


@dataclass
class Duplicates:
    """Duplicates in a corpus.

    Attributes:
        copies: pairs (name of the copy, name of the original), each of which counts as one document.
        windows: how many windows have the very tokens of an earlier one.
    """

    copies: list[tuple[str, str]] = field(default_factory=list)
    windows: int = 0

    def described(self) -> dict[str, object]:
        """The entry for the provenance, JSON-able; empty without duplicates."""
        if not self.copies and not self.windows:
            return {}
        named = [f"{copy} = {original}" for copy, original in self.copies[:_NAMED]]
        return {"duplicates": {"documents": len(self.copies), "windows": self.windows, "named": named}}

    def identified(self, documents: Iterable[Document]) -> Iterator[tuple[int, Document]]:
        """Every document with a number that it shares with its copies, recognised by their text."""
        seen: dict[bytes, tuple[int, str]] = {}
        for number, document in enumerate(documents):
            first, name = number, document.name
            if document.text.strip():  # empty documents have nothing to duplicate
                first, name = seen.setdefault(text_digest(document.text), (number, document.name))
            if first != number:
                self.copies.append((document.name, name))
            yield first, document

    def joined(self, rows: PackedRows) -> PackedRows:
        """Rows in which a document counts as another that has all its rows: as far as it is measured it is a copy.

        Documents that are mixed within a row (packed text) stay apart; their repeated rows are only counted.
        """
        digests = [ids_digest(ids) for ids in rows.ids]
        count = Counter(digests)
        self.windows = len(digests) - len(count)
        if self.windows == 0:
            return rows
        originals = _originals([digest if count[digest] > 1 else b"" for digest in digests], rows.owners)
        self.copies += [(rows.names[copy], rows.names[original]) for copy, original in sorted(originals.items())]
        kept = [owner for owner in range(len(rows.names)) if owner not in originals]
        index_of = {owner: index for index, owner in enumerate(kept)}
        number = np.array([index_of[originals.get(owner, owner)] for owner in range(len(rows.names))], np.int64)
        names = tuple(rows.names[owner] for owner in kept)
        return replace(rows, owners=[number[owners] for owners in rows.owners], names=names)


def _originals(digests: Sequence[bytes], owners: Sequence[Ids]) -> dict[int, int]:
    """By document all of whose rows another one has, the largest such document (the first of several).

    Args:
        digests: digests of the rows that occur several times; empty for the others.
        owners: for each row, its documents [token].
    """
    rows: dict[int, set[bytes]] = defaultdict(set)
    apart: set[int] = set()  # documents with rows of their own, or mixed with others
    for digest, inside in zip(digests, map(np.unique, owners), strict=True):
        for owner in inside.tolist():
            rows[owner].add(digest)
        if not digest or len(inside) > 1:
            apart.update(inside.tolist())
    holders: dict[bytes, set[int]] = defaultdict(set)
    for owner, held in rows.items():
        for digest in held - {b""}:
            holders[digest].add(owner)

    def size(owner: int) -> tuple[int, int]:
        return len(rows[owner]), -owner

    copies: dict[int, int] = {}
    for owner in sorted(set(rows) - apart):
        largest = max(set.intersection(*(holders[digest] for digest in rows[owner])), key=size)
        if size(largest) > size(owner):
            copies[owner] = largest
    return copies
