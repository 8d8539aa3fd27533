"""Rows of the unembedding that are not tokens of the tokenizer: padded and masked ones. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

VocabularyRows = Mapping[str, int | None]


def vocabulary_rows(rows: int, counted: int, tokenizer: Any) -> dict[str, int | None]:
    """How a plan describes it.

    Args:
        rows: how many rows the unembedding has.
        counted: rows that are not masked.
        tokenizer: the model's tokenizer; may be None.

    Returns:
        `rows`; `known` to the tokenizer (None without one); `padded`, beyond those; `masked` by the model; and
        `centred_over`, the rows whose mean centres logits: masked ones left out, padded ones not.
    """
    known = _known(tokenizer)
    padded = None if known is None else max(0, rows - known)
    return {"rows": rows, "known": known, "padded": padded, "masked": rows - counted, "centred_over": counted}


def centring_in_words(vocabulary: VocabularyRows) -> str:
    """Over which rows logits are centred, in words."""
    text = f"logits are centred over {vocabulary['centred_over']:,} rows of the unembedding"
    if vocabulary["padded"]:
        padded = f"{vocabulary['padded']:,} of {vocabulary['rows']:,}"
        text += f", padded rows that the tokenizer does not know included ({padded})"
    masked = f"; {vocabulary['masked']:,} masked rows have no logit and are left out" if vocabulary["masked"] else ""
    return text + masked


def is_plain(vocabulary: VocabularyRows) -> bool:
    """Whether every row is a token's."""
    return not vocabulary["padded"] and not vocabulary["masked"]


def _known(tokenizer: Any) -> int | None:
    """How many tokens a tokenizer knows, added ones included; None where that is not known."""
    with suppress(Exception):  # none, or one of another library's: it may have no length
        return len(tokenizer)
    with suppress(Exception):
        size = tokenizer.vocab_size
        return size if isinstance(size, int) else None
    return None
