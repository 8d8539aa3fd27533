"""Adds up the sums of documents that lie in several units, before any square of them is taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from selfrepair.run.storage.finished_unit import Unit
from selfrepair.run.storage.unit_file import Arrays

SHARED = "shared/"  # arrays [document, ...] of a unit's documents that other units have a part of too


def joined_documents(units: Sequence[Unit], last: Mapping[int, int], prefix: str) -> Iterator[Arrays]:
    """The sums of each document that lies in several units, over all its units; documents as an axis of length one.

    Only documents that later units go on with are in memory.

    Args:
        units: in the order of their numbers.
        last: the number of the last unit of each document that lies in several.
        prefix: which of the shared arrays, `shared/<prefix>`.
    """
    open_sums: dict[int, Arrays] = {}
    for unit in units:
        documents, arrays = unit.get(f"{SHARED}documents"), unit.starting_with(SHARED + prefix)
        for index, document in enumerate(documents.tolist()):
            _add(open_sums.setdefault(document, {}), arrays, index)
        for document in [document for document in open_sums if last[document] <= unit.number]:
            yield open_sums.pop(document)
    yield from open_sums.values()  # of an unfinished run


def _add(sums: Arrays, arrays: Arrays, index: int) -> None:
    for name, values in arrays.items():
        part = values[[index]].astype(np.float64)
        sums[name] = sums[name] + part if name in sums else part
