"""Draws donors, the other texts that a window's heads are resampled from: every window serves equally often."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from hashlib import blake2b

import numpy as np

from selfrepair.errors import SelfRepairError
from selfrepair.text import Windows
from selfrepair.text.duplicates import ids_digest

_SWAPS = 64  # random exchanges that are tried before donors are passed on along a path
_CHECKS = 10**6  # pairs that are checked for paths, in each draw: enough for all but corpora with no way out


def draw_donors(windows: Windows, donors: int, seed: int) -> np.ndarray:
    """Donors of every window: windows of other documents, other text, at least as long, all different.

    In every draw each window serves once, as far as lengths and documents allow (one document may have more than
    half of the windows); what that leaves without a donor takes the one that has served least.

    A window's donors depend on the seed, on the window's tokens, and on the windows to draw from; not on the order
    or the names of windows and documents.

    Args:
        windows: the corpus.
        donors: number of donors of each window.
        seed: seed of the draw.

    Returns:
        int64 [window, donors], indices of windows.

    Raises:
        SelfRepairError: where some window has too few.
    """
    corpus = _Corpus(windows)
    drawn = np.full((len(windows), donors), -1, dtype=np.int64)
    served = np.zeros(len(windows), np.int64)
    for draw in range(donors):
        generator = np.random.default_rng([seed, draw, corpus.digest])
        matching = _Matching(corpus, drawn[:, :draw], generator)
        for members in corpus.by_length():
            matching.match(members)
        for window, donor in matching.found.items():
            drawn[window, draw] = donor
        served += np.bincount(list(matching.found.values()), minlength=len(windows))
        _serve_the_rest(corpus, drawn, draw, served, generator)
    return drawn


class _Corpus:
    """The windows, and which may serve which.

    Attributes:
        order: windows, ordered by their tokens.
        lengths: [window].
        labels: for each window, its documents, and its very text where other windows have it too: windows with a
            label in common do not serve each other.
        digest: digest of all windows' tokens.
    """

    def __init__(self, windows: Windows) -> None:
        self.lengths = windows.lengths
        digests = [ids_digest(row[:length]) for row, length in zip(windows.tokens, windows.lengths, strict=True)]
        self.order = sorted(range(len(windows)), key=digests.__getitem__)
        self.digest = int.from_bytes(blake2b(b"".join(sorted(digests)), digest_size=16).digest())
        count = Counter(digests)
        self.labels: list[frozenset[int | bytes]] = [
            frozenset({*documents, digest}) if count[digest] > 1 else frozenset(documents)
            for documents, digest in zip(windows.document_sets(), digests, strict=True)
        ]
        self._holders: dict[int | bytes, list[int]] = defaultdict(list)
        for window, labels in enumerate(self.labels):
            for label in labels:
                self._holders[label].append(window)

    def by_length(self) -> list[list[int]]:
        """Windows of equal length together, the longest first: only those can all serve each other."""
        groups: dict[int, list[int]] = defaultdict(list)
        for window in self.order:
            groups[int(self.lengths[window])].append(window)
        return [groups[length] for length in sorted(groups, reverse=True)]

    def eligible(self, window: int) -> np.ndarray:
        """Which windows may serve one, bool [window]."""
        fits = np.asarray(self.lengths >= self.lengths[window])
        for label in self.labels[window]:
            fits[self._holders[label]] = False
        return fits


class _Matching:
    """One draw: a donor for each of some windows, each of which serves once.

    Attributes:
        found: donors by window.

    Args:
        corpus: the windows.
        before: [window, draw] donors of earlier draws, which are not taken again.
        generator: random generator of the draw.
    """

    def __init__(self, corpus: _Corpus, before: np.ndarray, generator: np.random.Generator) -> None:
        self.found: dict[int, int] = {}
        self._labels, self._before, self._generator = corpus.labels, before, generator
        self._checks = 0

    def match(self, members: list[int]) -> None:
        """Finds donors for windows of one length among themselves; those for which there are none stay without."""
        donors: list[int] = self._generator.permutation(members).tolist()
        for index in range(len(members)):
            if not self._fits(members[index], donors[index]):
                _ = self._exchange(members, donors, index) or self._pass_on(members, donors, index)
        pairs = zip(members, donors, strict=True)
        self.found |= {window: donor for window, donor in pairs if self._fits(window, donor)}

    def _fits(self, window: int, donor: int) -> bool:
        return self._labels[window].isdisjoint(self._labels[donor]) and donor not in self._before[window]

    def _exchange(self, members: list[int], donors: list[int], index: int) -> bool:
        """Exchanges a donor that does not fit for that of another window, where both fit then."""
        for other in self._generator.integers(len(members), size=_SWAPS).tolist():
            if self._fits(members[index], donors[other]) and self._fits(members[other], donors[index]):
                donors[index], donors[other] = donors[other], donors[index]
                return True
        return False

    def _pass_on(self, members: list[int], donors: list[int], index: int) -> bool:
        """Passes donors on along the shortest path that ends with the one that did not fit (an augmenting path)."""
        if self._checks >= _CHECKS:
            return False
        came_from: dict[int, int] = {}
        waiting = deque([index])
        others = self._generator.permutation(len(members)).tolist()
        while waiting and self._checks < _CHECKS:
            taker = waiting.popleft()
            self._checks += len(others)
            reached = [other for other in others if self._fits(members[taker], donors[other])]
            for other in reached:
                came_from[other] = taker
            if index in came_from:
                self._follow(donors, came_from, index)
                return True
            waiting.extend(reached)
            others = [other for other in others if other not in came_from]
        return False

    @staticmethod
    def _follow(donors: list[int], came_from: dict[int, int], index: int) -> None:
        """Every window on the path takes the donor of the next one."""
        spare, current = donors[index], index
        while True:
            taker = came_from[current]
            donors[taker], spare = spare, donors[taker]
            current = taker
            if taker == index:
                return


def _serve_the_rest(
    corpus: _Corpus, drawn: np.ndarray, draw: int, served: np.ndarray, generator: np.random.Generator
) -> None:
    """Gives every window that is still without a donor in this draw the one that has served least.

    Raises:
        SelfRepairError: where there is none.
    """
    rank = np.empty(len(served), np.int64)  # those that have served least first, by chance where as often
    rank[corpus.order] = generator.permutation(len(served))
    rank += served * len(served)
    for members in corpus.by_length():
        for window in members:
            if drawn[window, draw] >= 0:
                continue
            fits = corpus.eligible(window)
            fitting = int(fits.sum())
            fits[drawn[window, :draw]] = False
            if not fits.any():
                raise SelfRepairError(
                    f"Window {window} needs {drawn.shape[1]} donor windows from other documents, at least "
                    f"{corpus.lengths[window]} tokens long; there are {fitting}.",
                    "Take more tokens or text of more documents, fewer --donors, or --ablation mean.",
                )
            donor = int(np.where(fits, rank, np.iinfo(np.int64).max).argmin())
            drawn[window, draw] = donor
            served[donor] += 1
            rank[donor] += len(served)
