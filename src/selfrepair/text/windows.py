"""Windows: the fixed-length token sequences that go through the model; each remembers its documents."""

import hashlib
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfrepair.terminal import plain
from selfrepair.text.document_sources import source_in_words
from selfrepair.text.duplicates import duplicates_in_words

_BLOCK = 1024  # windows hashed at a time


@dataclass(frozen=True, eq=False)
class Windows:
    """Token windows with the document of every token.

    Example:
        >>> len(text), text.length, text.names[0]
        (10, 16, 'text 1')

    Attributes:
        tokens: token ids [window, position]; padded on the right where a window is shorter.
        lengths: real tokens of each window [window], those that the tokenizer puts in front included.
        documents: index into `names` of the document of each token [window, position]; -1 on padding. Tokens
            that the tokenizer puts in front count to the document of the token after them.
        names: document names.
        provenance: where the windows come from and how they were cut; JSON-able.
    """

    tokens: NDArray[np.integer[Any]]
    lengths: NDArray[np.integer[Any]]
    documents: NDArray[np.integer[Any]]
    names: tuple[str, ...]
    provenance: dict[str, object]

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2 or self.documents.shape != self.tokens.shape:
            raise ValueError("tokens and documents must both be [window, position]")
        if self.lengths.shape != self.tokens.shape[:1]:
            raise ValueError("lengths must be [window]")

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def length(self) -> int:
        """Positions of a window, padding included."""
        return int(self.tokens.shape[1])

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of shape, tokens, lengths, documents and names; not of padding, nor of the provenance."""
        digest = hashlib.sha256(json.dumps([self.tokens.shape, self.names]).encode())
        for start in range(0, len(self), _BLOCK):
            block = slice(start, start + _BLOCK)
            real = np.arange(self.length) < self.lengths[block, None]
            for array in (np.where(real, self.tokens[block], 0), self.lengths[block], self.documents[block] * real):
                digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        return digest.hexdigest()

    def select(self, indices: Sequence[int] | NDArray[np.integer[Any]] | NDArray[np.bool_]) -> "Windows":
        """Some of the windows, in the order given.

        Args:
            indices: window indices, or a mask [window]. `names` stays whole, so that document indices keep
                their meaning.

        Raises:
            IndexError: an index is out of range.
        """
        chosen = np.asarray(indices)
        chosen = chosen if chosen.size else chosen.astype(np.int64)
        provenance = {**self.provenance, "selected": len(self.tokens[chosen]), "selected_from": len(self)}
        return Windows(self.tokens[chosen], self.lengths[chosen], self.documents[chosen], self.names, provenance)

    def first_scored(self, first: int = 1) -> int:
        """The first position that counts: `first`, but none of several tokens that the tokenizer puts in front."""
        front = self.provenance.get("prefix")
        return max(first, len(front)) if isinstance(front, list) and len(front) > 1 else first

    def scored(self, first: int = 1) -> NDArray[np.bool_]:
        """Which predictions count.

        Args:
            first: the first prediction position that counts (0 would predict from the first token alone); see
                `first_scored`.

        Returns:
            [window, position - 1]: true where the position counts and the next token is real.
        """
        position = np.arange(self.length - 1)
        return (position >= self.first_scored(first)) & (position + 1 < self.lengths[:, None])

    def document_sets(self) -> list[frozenset[int]]:
        """The documents in each window, as indices into `names`."""
        return [frozenset(row[:length].tolist()) for row, length in zip(self.documents, self.lengths, strict=True)]

    def __repr__(self) -> str:
        return f"Windows({self._summary()})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{index}</td><td>{self.lengths[index]}</td><td>{self._shown_names(index)}</td></tr>"
            for index in range(min(5, len(self)))
        )
        more = "<p>…</p>" if len(self) > 5 else ""
        head = "<tr><th>window</th><th>tokens</th><th>document</th></tr>"
        return f"<p><b>Windows</b> {html.escape(self._summary())}</p><table>{head}{rows}</table>{more}"

    def _shown_names(self, window: int) -> str:
        inside = self.documents[window, : self.lengths[window]]
        return html.escape(plain(", ".join(self.names[document] for document in dict.fromkeys(inside.tolist()))))

    def _summary(self) -> str:
        present = len(np.unique(self.documents[self.documents >= 0]))
        source = plain(source_in_words(self.provenance))
        twice = duplicates_in_words(self.provenance)
        return (
            f"{len(self):,} windows of {self.length} tokens, {int(self.lengths.sum()):,} of them real, "
            f"{present:,} documents of {source}{f'; {twice}' if twice else ''}"
        )
