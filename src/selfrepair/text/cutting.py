"""Documents cut into windows: what each window starts with, what is packed, and what is refused."""

from collections.abc import Iterable, Iterator
from types import EllipsisType
from typing import Any, Literal

import numpy as np

from selfrepair.errors import SelfRepairError
from selfrepair.terminal import readable
from selfrepair.text.bounded import characters_for
from selfrepair.text.document import Document
from selfrepair.text.document_sources import read_documents, traces
from selfrepair.text.duplicates import Duplicates
from selfrepair.text.given_texts import GIVEN, Source, given_documents, named_source
from selfrepair.text.packing import PackedRows, pack_apart, pack_joined
from selfrepair.text.tokens import Encoder
from selfrepair.text.windows import Windows

Packing = Literal["documents", "packed"]
Bos = Literal["auto", "always", "never"]

_PADDING = 0  # never seen by a real token, so any id that every vocabulary has


def windows(
    tokenizer: Any,
    source: Source = "builtin",
    *,
    tokens: int | EllipsisType | None = ...,
    length: int = 64,
    packing: Packing = "documents",
    bos: Bos = "auto",
    field: str = "text",
    seed: int = 0,
    at_most: bool = False,
) -> Windows:
    """Cut the documents of a source into windows.

    Packing `"documents"`: no window crosses documents. Windows are taken round robin, one of each document
    before a second of any, so that few tokens come from many documents; which window of a document comes
    first is drawn by `seed`. A document's tail is kept as a right-padded window when it fills at least half
    of one, and comes last among the document's windows; documents shorter than that are passed over.

    Packing `"packed"`, as in the paper: documents joined, separators left out, cut in rows (with a
    beginning-of-sequence token put before each where one is used), the last partial row dropped, in the
    source's order (`seed` plays no part). Unlike the paper's code, which joins strings, each document is
    tokenized on its own and ids are joined: every token has exactly one document.

    A document whose text is there already, white space aside, or all of whose windows another document has, counts as
    one document with it: copies are not independent. They are counted in the provenance (`duplicates`).

    Reading is lazy: it stops at the document that makes the windows enough, and reads of a document that is much longer
    than what is asked for the beginning only (`text.bounded`; how many were cut short is in the provenance).

    Example:
        >>> windows(tokenizer, ["A first document.", "And a second one."], length=8).tokens.shape  # [window, position]
        (6, 8)

    Args:
        tokenizer: a `transformers` tokenizer or one called alike.
        source: see `read_documents`; or texts themselves, `["One text.", "Another."]`, each a document.
        tokens: how many tokens, counted in windows: `ceil(tokens / length)` windows are made. None for all, which texts
            themselves have by default; for a source it has to be given, as some have no end.
        length: positions of a window, what `bos` puts in front included.
        packing: `"documents"` or `"packed"`.
        bos: what each window starts with. `"auto"`: what the tokenizer puts in front of a text, which may be several
            tokens (in the provenance as `prefix`) or none; `"always"`: its beginning-of-sequence token where it puts
            nothing; `"never"`.
        field: the field that holds the text, in formats that have fields.
        seed: seed of the draw of windows.
        at_most: whether all of a source that has less than `tokens` is enough.

    Raises:
        SelfRepairError: `tokens`, `length`, `packing` or `bos` make no sense; the source cannot be read; it
            has fewer windows than asked for, or none.
    """
    name = named_source(source)
    cut: dict[str, Any] = {"length": length, "packing": packing, "bos": bos, "seed": seed, "at_most": at_most}
    if name is None:
        wanted = None if tokens is ... else tokens
        return windows_of_documents(tokenizer, given_documents(source), tokens=wanted, source=GIVEN, **cut)
    if tokens is ...:
        raise SelfRepairError(
            f"How much text of {name!r} is wanted? `tokens` was not given.",
            "Give tokens=640, or tokens=None for all of it. Texts go in a list: windows(tokenizer, [text]).",
        )
    documents = read_documents(name, field=field, most=characters_for(tokens))
    made = windows_of_documents(tokenizer, documents, tokens=tokens, source=name, **cut)
    made.provenance["field"] = field
    made.provenance.update(traces(name))
    return made


def windows_of_documents(
    tokenizer: Any,
    documents: Iterable[Document],
    *,
    tokens: int | None,
    length: int = 64,
    packing: Packing = "documents",
    bos: Bos = "auto",
    seed: int = 0,
    source: str = "memory",
    at_most: bool = False,
) -> Windows:
    """Cut documents that are already at hand into windows; see `windows` for the arguments.

    Args:
        documents: the documents, read no further than needed.
        source: what to call them in messages and in the provenance.

    Raises:
        SelfRepairError: as `windows`.
    """
    _check(tokens, length, packing, bos)
    encoder, duplicates, cut = Encoder(tokenizer), Duplicates(), list[str]()
    prefix = encoder.prefix(bos)
    _check_prefix(prefix, length)
    size = length - len(prefix)
    wanted = None if tokens is None else -(-tokens // length)
    encoded = (
        (number, document.name, encoder(document.text, document.name))
        for number, document in duplicates.identified(_counted(documents, cut))
    )
    if packing == "packed":
        rows = pack_joined(encoded, size, wanted)
    else:
        least = max(-(-length // 2) - len(prefix), 1 if len(prefix) == 1 else 2)  # for one prediction at least
        rows = pack_apart(encoded, size, least, wanted, seed)
    _check_enough(rows, source, tokens, None if at_most else wanted, length, packing)
    rows = duplicates.joined(rows)
    provenance: dict[str, object] = {
        "source": readable(source),
        "packing": packing,
        "bos": bos,
        "bos_token": prefix[0] if prefix else None,
        "prefix": list(prefix),
        "length": length,
        "tokens": tokens,
        "seed": seed,
        "documents_read": rows.read,
        "documents_cut": len(cut),
        "special_tokens_in_text": encoder.special_tokens,
        "tokenizer": type(tokenizer).__name__,
        **duplicates.described(),
    }
    return _assemble(rows, length, prefix, provenance)


def _counted(documents: Iterable[Document], cut: list[str]) -> Iterator[Document]:
    """The documents, while the names of those of which only the beginning was read are noted."""
    for document in documents:
        if not document.whole:
            cut.append(document.name)
        yield document


def _assemble(rows: PackedRows, length: int, prefix: tuple[int, ...], provenance: dict[str, object]) -> Windows:
    """Put the tokens that go in front and the padding on."""
    tokens = np.full((len(rows.ids), length), _PADDING, dtype=np.int32)
    documents = np.full_like(tokens, -1)
    lengths = np.zeros(len(rows.ids), dtype=np.int32)
    first = len(prefix)
    for window, (ids, owners) in enumerate(zip(rows.ids, rows.owners, strict=True)):
        end = lengths[window] = first + len(ids)
        tokens[window, :first], documents[window, :first] = prefix, owners[0]
        tokens[window, first:end] = ids
        documents[window, first:end] = owners
    return Windows(tokens, lengths, documents, rows.names, provenance)


def _check_prefix(prefix: tuple[int, ...], length: int) -> None:
    needed = len(prefix) + (1 if len(prefix) < 2 else 2)
    if length < needed:
        raise SelfRepairError(
            f"The tokenizer puts {len(prefix)} tokens in front of a text; windows of {length} have no room for more.",
            f"Give a --length of {needed} or more, 64 is usual; or --bos never.",
        )


def _check(tokens: int | None, length: int, packing: str, bos: str) -> None:
    if length < 2:
        raise SelfRepairError(
            f"A window needs 2 tokens at least, one to predict and one before it; --length is {length}.",
            "Give a --length of 2 or more; 64 is usual.",
        )
    if tokens is not None and tokens < 1:
        raise SelfRepairError(f"At least 1 token was expected; --tokens is {tokens}.", "Give --tokens 1 or more.")
    for name, value, known in (
        ("packing", packing, ("documents", "packed")),
        ("bos", bos, ("auto", "always", "never")),
    ):
        if value not in known:
            raise SelfRepairError(f"There is no --{name} {value!r}.", f"Give one of: {', '.join(known)}.")


def _check_enough(
    rows: PackedRows, source: str, tokens: int | None, wanted: int | None, length: int, packing: str
) -> None:
    """Complain when there are no windows, or fewer than wanted."""
    made = len(rows.ids)
    if made == 0 and packing == "documents":
        raise SelfRepairError(
            f"No document of {source} fills half a window of {length} tokens: "
            f"the longest of {rows.read:,} has {rows.most:,} tokens.",
            "Give a shorter --length, or --packing packed, which joins documents; or more text.",
        )
    if made == 0:
        raise SelfRepairError(
            f"{source} fills no window of {length} tokens: it has {rows.most:,} tokens in all.",
            "Give a shorter --length, or more text.",
        )
    if wanted is not None and made < wanted:
        other = ", use --packing packed, which joins short documents" if packing == "documents" else ""
        raise SelfRepairError(
            f"{source} fills {made:,} windows of {length} tokens; "
            f"{wanted:,} windows, {tokens:,} tokens were asked for.",
            f"Ask for --tokens {made * length} or fewer{other}, or give more text.",
        )
