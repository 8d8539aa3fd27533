"""Which documents are measured exactly in two phases."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_PART = 0x7061727473  # beside a run's seed: the draw of the exact part is another than that of a text or of donors


def drawn_part(documents: np.ndarray, number: int, seed: int) -> np.ndarray:
    """So many of the documents, any as likely as any others.

    Args:
        documents: numbers of documents.
        number: how many are measured exactly.
        seed: the run's.
    """
    return np.asarray(np.random.default_rng([seed, _PART]).permutation(documents)[:number])


def spread_part(documents: np.ndarray, number: int, seed: int) -> np.ndarray:
    """So many of the documents, spread evenly over the order in which they are read.

    If that order is random, so is the part; and of however many documents are read, it has its share, to one, any of
    them as likely as any others.

    Args:
        documents: numbers of documents, in the order in which they are read.
        number: how many are measured exactly.
        seed: the run's.
    """
    offset = float(np.random.default_rng([seed, _PART]).random())
    return np.asarray(documents[evenly_spaced(len(documents), number, offset)])


def evenly_spaced(places: int, number: int, offset: float) -> npt.NDArray[np.int64]:
    """Some of the places 0, 1, ..., in order: of the first n, for any n, as many as their share, to one.

    Example:
        >>> evenly_spaced(10, 4, 0.5).tolist()
        [1, 3, 6, 8]

    Args:
        places: how many places there are.
        number: how many of them are taken.
        offset: from 0 to 1; a uniformly random one takes every place with the same probability.
    """
    return np.minimum(np.floor((np.arange(number) + offset) * places / number), places - 1).astype(np.int64)
