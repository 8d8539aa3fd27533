"""Turns texts into token ids; tokenizers are duck-typed, special tokens inside a text are data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from selfrepair.errors import SelfRepairError

Ids = NDArray[np.int64]

PIECE = 2**20  # characters handed to the tokenizer at a time; its own bookkeeping is ~100 bytes a token
PATIENCE = 120.0  # seconds for a piece, which takes about one
_PROBES = ("text", "9")  # short texts with different tokens
_SPECIAL = 8  # special tokens that are tried
_LARGEST = 2**31 - 1  # id of a token: windows keep them in 32 bits


class Encoder:
    """A tokenizer as windows need it: ids of a text, with nothing added.

    Strings such as `<|endoftext|>` inside the text are data: they are encoded like any other text where the
    tokenizer can (`split_special_tokens`). Texts beyond `PIECE` characters are encoded piece by piece, cut
    before white space, where byte-level tokenizers cut anyway.

    Attributes:
        special_tokens: `"text"` where special tokens inside a text are taken for text, else
            `"as the tokenizer does"`.

    Args:
        tokenizer: a `transformers` tokenizer, or anything called alike: `tokenizer(text, ...)["input_ids"]`.

    Raises:
        SelfRepairError: it cannot be called like that.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._options = self._accepted_options()
        self.special_tokens = self._special_tokens_in_text()

    def __call__(self, text: str, name: str = "a text") -> Ids:
        """Token ids [token] of a text.

        Args:
            text: the text of one document.
            name: what to call it in messages.

        Raises:
            SelfRepairError: the tokenizer fails on it, or takes longer than `PATIENCE` over a piece.
        """
        pieces = [self._ids(piece, name, add_special_tokens=False, **self._options) for piece in _pieces(text)]
        return np.concatenate(pieces)

    def prefix(self, bos: Literal["auto", "always", "never"]) -> tuple[int, ...]:
        """The ids to put in front of every window.

        Args:
            bos: `"auto"`: what the tokenizer itself puts in front of a text when it adds special tokens, be it
                one token, several (GLM) or none; `"always"`: the same, or its `bos_token` where it adds
                nothing; `"never"`.

        Raises:
            SelfRepairError: `"always"` with a tokenizer that has no such token.
        """
        added = () if bos == "never" else self._added_in_front()
        if added or bos != "always":
            return added
        token = _attribute(self._tokenizer, "bos_token_id")
        if not isinstance(token, int | np.integer) or not 0 <= token <= _LARGEST:
            has = "none" if token is None else f"{token!r:.40} for its number"
            raise SelfRepairError(
                f"A beginning-of-sequence token was asked for, but the tokenizer has {has}.",
                'Use --bos never, or set `tokenizer.bos_token` (for GPT-2 and Pythia: "<|endoftext|>").',
            )
        return (int(token),)

    def _added_in_front(self) -> tuple[int, ...]:
        """What stands before a text's own ids when special tokens are added."""
        plain, whole = (
            [self._ids(probe, add_special_tokens=added).tolist() for probe in _PROBES] for added in (False, True)
        )
        for start in range(len(whole[0]) - len(plain[0]) + 1):
            if whole[0][start:][: len(plain[0])] == plain[0]:
                return tuple(whole[0][:start])
        # the text's own ids differ after special tokens: take what all texts begin with
        common = _common_start(whole)
        return tuple(common[: len(common) - len(_common_start(plain))])

    def _accepted_options(self) -> dict[str, object]:
        """The most of our options that the tokenizer does not refuse."""
        # verbose=False: the warning about texts longer than the model's context does not apply to windows
        tried: list[dict[str, object]] = [{"verbose": False}, {}]
        if _attribute(self._tokenizer, "split_special_tokens") is not None:
            tried.insert(0, {"verbose": False, "split_special_tokens": True})
        for options in tried[:-1]:
            try:
                self._ids(_PROBES[0], add_special_tokens=False, **options)
            except SelfRepairError:
                continue
            return options
        self._ids(_PROBES[0], add_special_tokens=False)
        return tried[-1]

    def _special_tokens_in_text(self) -> str:
        """How special tokens in a text are read, by trial: some tokenizers ignore the option, others never look."""
        known = list(_attribute(self._tokenizer, "all_special_tokens") or [])[:_SPECIAL]
        ids = list(_attribute(self._tokenizer, "all_special_ids") or [])[:_SPECIAL]
        if not known or len(known) != len(ids):
            return "as the tokenizer does"
        encoded = (self(f"a {token} b") for token in known)
        kept = all(special not in seen for special, seen in zip(ids, encoded, strict=True))
        return "text" if kept else "as the tokenizer does"

    def _ids(self, text: str, name: str = "a text", /, **options: object) -> Ids:
        def call() -> Ids:
            return _checked(np.asarray(self._tokenizer(text, **options)["input_ids"]))

        native = _attribute(self._tokenizer, "is_fast")
        what = f"{len(text):,} characters of {name}"
        try:
            return _in_time(call, what) if native else call()
        except (KeyboardInterrupt, SystemExit, SelfRepairError):
            raise
        except BaseException as problem:  # panics of native tokenizers are no `Exception`
            raise SelfRepairError(
                f"The tokenizer ({type(self._tokenizer).__name__}) fails on {name}: {_in_words(problem)}",
                "Leave the text out, or give a tokenizer that is called as those of `transformers` are.",
            ) from problem


def _checked(ids: NDArray[Any]) -> Ids:
    """Token ids of one text, which are whole numbers in a row; nothing is rounded or wrapped around to make them so.

    Raises:
        ValueError: they are something else.
    """
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise ValueError(f"one row of token ids was expected, not {ids.dtype} of shape {ids.shape}")
    if ids.size and not 0 <= ids.min() <= ids.max() <= _LARGEST:
        raise ValueError(f"token ids from {ids.min()} to {ids.max()}")
    return ids.astype(np.int64)


def _attribute(tokenizer: Any, name: str) -> Any:
    """An attribute of a tokenizer; None if it has none, or raises."""
    try:
        return getattr(tokenizer, name, None)
    except Exception:
        return None


def _in_words(problem: BaseException) -> str:
    try:
        lines = str(problem).splitlines()
    except Exception:  # an exception that cannot even be printed
        lines = []
    return ": ".join([type(problem).__name__, *(line[:200] for line in lines[:1])])


def encode(tokenizer: Any, text: str) -> Ids:
    """Token ids [token] of one text, with nothing added; see `Encoder`."""
    return Encoder(tokenizer)(text)


def _in_time(call: Callable[[], Ids], what: str) -> Ids:
    """What a call returns, if it returns within `PATIENCE` seconds.

    Native code cannot be interrupted, and a tokenizer's pattern may take forever on some texts. So it works in
    a thread of its own (native tokenizers release the interpreter): waiting for it ends with Ctrl-C or in time.
    """
    done: SimpleQueue[Ids | BaseException] = SimpleQueue()

    def work() -> None:
        try:
            done.put(call())
        except BaseException as problem:
            done.put(problem)

    Thread(target=work, daemon=True).start()
    try:
        result = done.get(timeout=PATIENCE)
    except Empty:
        raise SelfRepairError(
            f"The tokenizer was not done with {what} after {PATIENCE:g} seconds.",
            "Its pattern may take exponential time on long runs of one character: leave such documents out, or "
            "take another tokenizer.json.",
        ) from None
    if isinstance(result, BaseException):
        raise result
    return result


def _common_start(rows: Sequence[list[int]]) -> list[int]:
    """What all rows begin with."""
    return [column[0] for column in takewhile(lambda ids: len(set(ids)) == 1, zip(*rows, strict=False))]


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > PIECE:
        end = start + PIECE
        cut = max(text.rfind("\n", start + 1, end), text.rfind(" ", start + 1, end))
        cut = cut if cut > start else end
        yield text[start:cut]
        start = cut
    yield text[start:]
