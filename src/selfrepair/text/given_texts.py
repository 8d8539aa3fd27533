"""Texts that are given as Python objects instead of the name of a source."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from selfrepair.errors import SelfRepairError
from selfrepair.text.document import Document, not_empty

GIVEN = "given texts"  # what provenance calls them
Source = str | os.PathLike[str] | Iterable[str | Document]
_FIX = (
    'Give the name of a source ("builtin", a file, a folder, a dataset), or texts themselves in a list: '
    'windows(tokenizer, ["One text.", "Another."]).'
)


def named_source(source: object) -> str | None:
    """The name of a source; None where texts themselves are given.

    Raises:
        SelfRepairError: neither a name nor a sequence of texts.
    """
    if isinstance(source, str):
        return source
    if isinstance(source, os.PathLike):
        name = os.fspath(source)
        return name if isinstance(name, str) else os.fsdecode(name)
    if isinstance(source, bytes | bytearray | dict) or not isinstance(source, Iterable):
        raise SelfRepairError(f"A source of text was expected; a value of type {type(source).__name__} came.", _FIX)
    return None


def given_documents(texts: Source) -> Iterator[Document]:
    """Texts as documents, named by their place from 1 on: `text 1`.

    Args:
        texts: strings, or documents with names of their own; read as far as needed.

    Raises:
        SelfRepairError: something that is no text, or half of a surrogate pair; no text at all (when the iterator gets
            there).
    """
    each = texts if isinstance(texts, Iterable) else ()
    return not_empty(map(_document, enumerate(each, 1)), "The list of texts")


def _document(numbered: tuple[int, object]) -> Document:
    number, text = numbered
    if isinstance(text, Document):
        return text
    if not isinstance(text, str):
        raise SelfRepairError(
            f"Text {number} of the list is a value of type {type(text).__name__}, not a string.", _FIX
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise SelfRepairError(
            f"Text {number} of the list is not valid Unicode: it holds half of a surrogate pair.",
            'Replace what cannot be encoded: text.encode("utf-8", "replace").decode().',
        ) from None
    return Document(f"text {number}", text)
