"""How text is cut, donors drawn and tokens chosen: by default, or as the paper's authors did, known flaws included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from selfrepair.ablation.operators import Operator, Source
from selfrepair.errors import SelfRepairError
from selfrepair.model.ports import Port
from selfrepair.text import Windows
from selfrepair.text.document import Document

CHUNK_DOCUMENTS = 1000  # documents that `utils.tokenize_and_concatenate` joins in one map call
BATCH = 30  # windows in a batch of the authors' scripts
PIECES = 20  # character pieces that it tokenizes a chunk in


@dataclass(frozen=True)
class Recipe:
    """The choices in which the default measurement and the paper's differ.

    Attributes:
        name: `default` or `original`.
        first: first position that counts; the authors count position 0, where resampling changes nothing
            (docs/methods.md 6.3).
        donors: `documents`, drawn from other documents; or `offset`, the next batch's row, mostly the same or a
            neighbouring document (docs/methods.md 6.2).
        mean: mean ablation's replacement, the mean over the `corpus` or over the `batch` (docs/methods.md 6.4).
        batch: windows in a batch, within which donors and means are taken.
        percentile: whether Figure 4's filter is numpy's percentile with `>` rather than the k largest.
        own_scale: whether a self-repression's new direct effect is taken with the intervened run's own scale
            (docs/methods.md 6.6).
        shares: thresholds of Figure 8; the text says 2%, the code 2.5% (docs/methods.md 6.5).
        by_all_mlps: whether Figure 7 chooses tokens by the repair of all MLPs, not the last (docs/methods.md 6.5).
    """

    name: str = "default"
    first: int = 1
    donors: str = "documents"
    mean: str = "corpus"
    batch: int = 8
    percentile: bool = False
    own_scale: bool = False
    shares: tuple[float, ...] = (0.5, 0.1, 0.05, 0.02, 0.01)
    by_all_mlps: bool = False

    @property
    def original(self) -> bool:
        """Whether this is the paper's own recipe."""
        return self.name == "original"


DEFAULT = Recipe()


def original(batch: int) -> Recipe:
    """The paper's own choices, from its authors' code (docs/methods.md 6)."""
    shares = (0.5, 0.1, 0.05, 0.025, 0.01)
    return Recipe("original", 0, "offset", "batch", batch, True, True, shares, True)


def recipe_named(name: str, windows: Windows) -> Recipe:
    """The recipe of that name for a corpus; the original's batches are those that its windows were counted in.

    Raises:
        SelfRepairError: there is no such recipe, or too little text for it.
    """
    if name == "default":
        return DEFAULT
    if name != "original":
        raise SelfRepairError(f"There is no recipe '{name}'.", "Available: default, original.")
    if len(windows) < 2:
        raise SelfRepairError(
            "The original recipe takes donors from the next batch of windows; there is a single window.",
            "Take more --tokens.",
        )
    batch = windows.provenance.get("batch")
    return original(batch if isinstance(batch, int) else min(BATCH, len(windows) // 2))


def original_amount(tokens: int, length: int) -> tuple[int, int]:
    """Windows that the authors' scripts take, and how many of them to a batch (docs/methods.md 6.1).

    `(MIN // (S B) + 1) B` windows, `S` the length and `B` the authors' 30. Where that would be a single batch, which is
    its own next one, batches are smaller: two of them fit into the tokens asked for.

    Args:
        tokens: least number of tokens, `MIN`; beginning-of-sequence tokens count.
        length: tokens of a window, `S`.
    """
    batch = BATCH if tokens >= length * BATCH else max(1, tokens // (2 * length))
    return (tokens // (length * batch) + 1) * batch, batch


@dataclass(frozen=True)
class NextBatch(Operator):
    """Resampling as the authors do it: row i of a batch gets the next batch's row i (rolled, in some figures).

    Attributes:
        batch: windows in a batch.
        roll: rows by which the next batch is rolled: 0 for Figures 1, 3, 4, 6 to 8, 1 for Figure 2, 2 for 5 and 16.
    """

    batch: int
    roll: int = 0
    name: str = "resample, next batch"
    donors: ClassVar[int] = 1

    def draw_donors(self, windows: Windows, seed: int = 0) -> np.ndarray:
        """Donors [window, 1]: `(batch + 1, row - roll)`; the last batch wraps to the first (docs/methods.md 6.2)."""
        count = len(windows) - len(windows) % self.batch or len(windows)
        window = np.arange(len(windows))
        batch, row = window // self.batch, window % self.batch
        source = (batch + 1) * self.batch % count + (row - self.roll) % self.batch
        return np.asarray(source % len(windows), np.int64)[:, None]

    def replacement(self, port: Port, clean: Tensor, source: Source, draw: int) -> Tensor:
        """See `selfrepair.ablation.operators.Operator`."""
        return source.donor(port, draw)


def batch_mean(clean: Tensor) -> Tensor:
    """The authors' mean ablation (docs/methods.md 6.4).

    It is over windows and positions of the batch, [window, position, head, head_dim].
    """
    return clean.mean((0, 1)).expand_as(clean)


def original_windows(
    tokenizer: Any, documents: Iterable[Document], *, length: int, tokens: int, source: str
) -> Windows:
    """Windows as the paper's `tokenize_and_concatenate` cuts them, with the document of every token kept.

    Documents are joined with the end-of-sequence token, 1000 at a time; the text is cut in 20 pieces of equally many
    characters and each is tokenized on its own; every token that equals padding is dropped, and with it, where padding
    is end-of-sequence, the separators; rows of `length - 1` tokens get a beginning-of-sequence token in front. How
    many there are: see `original_amount`.

    Raises:
        SelfRepairError: a tokenizer without offsets or end-of-sequence token, or too little text.
    """
    if not getattr(tokenizer, "is_fast", False) or tokenizer.eos_token is None:
        raise SelfRepairError(
            "The original recipe needs a fast tokenizer with an end-of-sequence token.", "Use --recipe default."
        )
    wanted, batch = original_amount(tokens, length)
    ids: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    names: list[str] = []
    queue = iter(documents)
    # TransformerLens takes 1000 at a time from a stored set; how many there are changes where pieces end
    while sum(map(len, ids)) < wanted * (length - 1) and (chunk := list(islice(queue, CHUNK_DOCUMENTS))):
        for piece, owner in _pieces(tokenizer, chunk):
            ids.append(piece)
            owners.append(owner + len(names))
        names += [document.name for document in chunk]
    size = length - 1
    every = np.concatenate(ids) if ids else np.zeros(0, np.int64)
    if len(every) < wanted * size:
        raise SelfRepairError(
            f"{source} has {len(every):,} tokens; for --tokens {tokens} the original recipe takes {wanted * size:,}, "
            f"{wanted} windows of {size} in whole batches of {batch}.",
            "Ask for fewer --tokens.",
        )
    rows = every[: wanted * size].reshape(wanted, size)
    belongs = np.concatenate(owners)[: wanted * size].reshape(wanted, size)
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return Windows(
        tokens=np.column_stack([np.full(wanted, start), rows]).astype(np.int64),
        lengths=np.full(wanted, length, np.int64),
        documents=np.column_stack([belongs[:, :1], belongs]).astype(np.int64),
        names=tuple(names),
        provenance={
            "source": source,
            "packing": "original",
            "length": length,
            "tokens": tokens,
            "batch": batch,
            "bos_token": start,
        },
    )


def _pieces(tokenizer: Any, chunk: list[Document]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Token ids of each piece of the joined documents, and the document of each token."""
    separator = tokenizer.eos_token
    text = separator.join(document.text for document in chunk)
    starts = np.cumsum([0] + [len(document.text) + len(separator) for document in chunk[:-1]])
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    size = (len(text) - 1) // PIECES + 1
    for start in range(0, len(text), size):
        coded = tokenizer(text[start : start + size], return_offsets_mapping=True)  # BOS included, as the authors do
        pieces = np.asarray(coded["input_ids"], np.int64)
        offsets = np.array([span[0] for span in coded["offset_mapping"]], np.int64).reshape(-1) + start
        owner = np.searchsorted(starts, offsets, side="right") - 1
        kept = pieces != padding
        yield pieces[kept], owner[kept]


def next_batch_source(windows: Windows, recipe: Recipe, roll: int) -> np.ndarray:
    """Donors of all windows under the original recipe, [window]."""
    return NextBatch(recipe.batch, roll).draw_donors(windows)[:, 0]
