"""Bytes of tokens: a token may be half a character, so its text is not enough."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from selfrepair.results.extras import SCHEMAS
from selfrepair.run.gathering.best_effort import warn_left_out

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def vocabulary_table(tokenizer: Any, tokens: Iterable[int]) -> pa.Table | None:
    """`token, bytes` of the given tokens; None without a tokenizer. Tokens that it cannot decode are left out."""
    if tokenizer is None:
        return None
    texts: dict[int, bytes] = {}
    problems: list[BaseException] = []
    for token in np.unique(np.fromiter(tokens, np.int64)).tolist():
        try:
            texts[token] = token_bytes(tokenizer, token)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as problem:  # padded rows of a vocabulary; panics of native tokenizers
            problems.append(problem)
    if problems:
        why = f"{type(problems[0]).__name__}: {problems[0]}"
        warn_left_out(f"texts of {len(problems)} tokens", why, "They are shown by their numbers.")
    return pa.table([list(texts), list(texts.values())], SCHEMAS["vocabulary"]) if texts else None


def token_bytes(tokenizer: Any, token: int) -> bytes:
    """The bytes that a token stands for.

    The tokenizer's own decoding, where that is whole characters; else the piece in byte-level alphabets (GPT-2) and
    in byte fallbacks (`<0xE2>`).
    """
    text = _decoded(tokenizer, token)
    piece = tokenizer.convert_ids_to_tokens(token)
    if not isinstance(piece, str):
        return text.encode(errors="replace")
    if piece.startswith("<0x") and piece.endswith(">") and len(piece) == 6:
        return bytes.fromhex(piece[3:5])
    alphabet = byte_alphabet()
    if _REPLACEMENT in text and all(letter in alphabet for letter in piece):
        return bytes(alphabet[letter] for letter in piece)
    if piece.startswith("▁") and not text.startswith(" "):
        text = " " + text  # sentencepiece drops the space in front of a lone token
    return text.encode(errors="replace")


def _decoded(tokenizer: Any, token: int) -> str:
    try:
        text: str = tokenizer.decode([token], clean_up_tokenization_spaces=False)
    except (TypeError, ValueError):  # a tokenizer that does not know the option, or refuses it
        text = tokenizer.decode([token])
    return text


@cache
def byte_alphabet() -> dict[str, int]:
    """The letters by which byte-level tokenizers write bytes (GPT-2's `bytes_to_unicode`), to bytes."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + offset): byte for offset, byte in enumerate(others)}
