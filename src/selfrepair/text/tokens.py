"""Texts to token ids: tokenizers are duck-typed, text stays data."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from selfrepair.errors import SelfRepairError

PIECE = 2**20  # characters handed to the tokenizer at a time; its own bookkeeping is ~100 bytes a token


def encode(tokenizer: Any, text: str) -> NDArray[np.int64]:
    """Token ids of a text, with nothing added.

    Strings such as `<|endoftext|>` inside the text are data: they are encoded like any other text where the
    tokenizer can (`split_special_tokens`). Texts beyond `PIECE` characters are encoded piece by piece, cut
    before white space, where byte-level tokenizers cut anyway.

    Args:
        tokenizer: a `transformers` tokenizer, or anything called alike: `tokenizer(text, ...)["input_ids"]`.
        text: the text of one document.

    Returns:
        ids [token].
    """
    options = {"split_special_tokens": True} if splits_special_tokens(tokenizer) else {}
    ids: list[int] = []
    for piece in _pieces(text):
        # verbose=False: the warning about texts longer than the model's context does not apply to windows
        ids += tokenizer(piece, add_special_tokens=False, verbose=False, **options)["input_ids"]
    return np.asarray(ids, dtype=np.int64)


def splits_special_tokens(tokenizer: Any) -> bool:
    """Whether the tokenizer can be told to take special tokens in a text for plain text."""
    return hasattr(tokenizer, "split_special_tokens")


def bos_token(tokenizer: Any, bos: Literal["auto", "always", "never"]) -> int | None:
    """The id to put before every window, or None.

    Args:
        tokenizer: see `encode`.
        bos: `"auto"`: what the tokenizer itself does when it adds special tokens; `"always"`; `"never"`.

    Raises:
        SelfRepairError: `"always"` with a tokenizer that has no such token.
    """
    token = getattr(tokenizer, "bos_token_id", None)
    if bos == "never":
        return None
    if bos == "always":
        if token is None:
            raise SelfRepairError(
                "A beginning-of-sequence token was asked for, but the tokenizer has none.",
                'Use --bos never, or set `tokenizer.bos_token` (for GPT-2 and Pythia: "<|endoftext|>").',
            )
        return int(token)
    if token is None:
        return None
    added = tokenizer("text", add_special_tokens=True)["input_ids"][:1]
    plain = tokenizer("text", add_special_tokens=False)["input_ids"][:1]
    return int(token) if list(added) == [token] != list(plain) else None


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > PIECE:
        end = start + PIECE
        cut = max(text.rfind("\n", start + 1, end), text.rfind(" ", start + 1, end))
        cut = cut if cut > start else end
        yield text[start:cut]
        start = cut
    yield text[start:]
