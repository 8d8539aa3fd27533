"""A uniform sample of the tokens that pass a filter, drawn as they arrive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from selfrepair.statistics.keep import token_hash


@dataclass
class TokenSample:
    """The tokens with the smallest seeded hashes of (window, position) among all that were added.

    Uniform over them, of bounded size, and the same for any parts and order in which they came; the hash is that of
    the sweep's own sample (`statistics/keep.py`).

    Attributes:
        size: the most tokens that are kept.
        seed: seed of the hash.
    """

    size: int
    seed: int = 0
    _hashes: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64), repr=False)
    _columns: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        """Adds tokens, each at most once.

        Args:
            columns: values to keep of each token by name, [token, ...]; `window` and `position` among them.
        """
        hashes = np.concatenate([self._hashes, token_hash(columns["window"], columns["position"], self.seed)])
        best = np.argsort(hashes, kind="stable")[: self.size]
        for name, values in columns.items():
            kept = self._columns.get(name, values[:0])
            self._columns[name] = np.concatenate([kept, values])[best]
        self._hashes = hashes[best]

    def columns(self) -> dict[str, np.ndarray]:
        """Columns kept, by name, in order of window and position; empty if no tokens were added."""
        if not self._columns:
            return {}
        order = np.lexsort((self._columns["position"], self._columns["window"]))
        return {name: values[order] for name, values in self._columns.items()}
