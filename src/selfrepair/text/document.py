"""One document: a text and the name that identifies it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from selfrepair.errors import SelfRepairError
from selfrepair.terminal import readable
from selfrepair.text.bounded import cut_short


@dataclass(frozen=True)
class Document:
    """A text with an identity: tokens of one document are not independent of each other.

    Attributes:
        name: the document's identity, e.g. `"corpus.jsonl:12"` or `"builtin:topics/import"`.
        text: the text as read, nothing stripped or normalised.
        whole: False where only its beginning was read.
    """

    name: str
    text: str
    whole: bool = True

    @classmethod
    def cut(cls, name: str, text: str, most: int | None) -> "Document":
        """A document cut to this many characters; None for all."""
        short = cut_short(text, most)
        return cls(name, short, len(short) == len(text))


def file_name(path: Path) -> str:
    """The name of a file as valid Unicode (names on disk need not be)."""
    return readable(path.name)


def valid_text(value: object, row_name: str, field: str) -> str:
    """The text of one row, checked.

    Args:
        value: what the row holds under `field`.
        row_name: the row in words, e.g. `"line 3 of corpus.jsonl"`.
        field: the name of the field.

    Raises:
        SelfRepairError: the value is no string, or holds half a surrogate pair, which no tokenizer takes.
    """
    if not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        raise SelfRepairError(
            f"A text was expected in the field {field!r} of {row_name}; it holds a value of type {kind}.",
            "Name the field that holds the text with --field, or leave out rows without a text.",
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise SelfRepairError(
            f"The text of {row_name} is not valid Unicode: it holds half of a surrogate pair.",
            "Write the file again as UTF-8, replacing what cannot be encoded.",
        ) from None
    return value


def not_empty(documents: Iterable[Document], source: str) -> Iterator[Document]:
    """Pass documents on; raise at the end if there was none.

    Raises:
        SelfRepairError: `documents` yielded nothing.
    """
    empty = True
    for document in documents:
        empty = False
        yield document
    if empty:
        raise SelfRepairError(f"{source} holds no text.", "Name a source with at least one document.")
