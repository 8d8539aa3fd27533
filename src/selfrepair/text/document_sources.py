"""Where documents come from: the built-in text, files, folders, datasets on the Hugging Face hub."""

import hashlib
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path

from selfrepair.errors import SelfRepairError
from selfrepair.reading import open_regular, require_regular
from selfrepair.terminal import readable
from selfrepair.text.builtin import builtin_documents
from selfrepair.text.document import Document, not_empty
from selfrepair.text.files import file_documents, folder_documents, suffixes
from selfrepair.text.hub import hub_documents, parse_dataset, revision

__all__ = ["Document", "read_documents", "traces"]

_HASHED = 2**30  # bytes of the largest file that is read whole just to identify it


def _fix() -> str:
    return (
        f'Give "builtin", a file ({", ".join(suffixes())}), a folder of .txt files, '
        "or a dataset of the Hugging Face hub (owner/name, owner/name:config, owner/name:config/split)."
    )


def read_documents(source: str, *, field: str = "text", most: int | None = None) -> Iterator[Document]:
    """Read the documents of a source, lazily and in the source's order.

    Args:
        source: `"builtin"` (the Python standard library's own prose and code); a `.txt` file (one document)
            or a folder of them (one document each, sorted by name); a `.jsonl` or `.json` file, as it is or
            compressed (`.gz`, `.zst`; one document a line); a `.parquet` file (one document a row); else a dataset
            of the Hugging Face hub, `owner/name`, `owner/name:config`, `owner/name/split` or `owner/name:config/split`
            (split `train` when none is given), which is streamed. What exists on disk is taken for a file or
            a folder first.
        field: the field or column that holds the text (not used by `"builtin"` and `.txt`).
        most: characters of a document that are wanted: no more of a longer one is read. None for all.

    Returns:
        An iterator over documents. Names are file name and row, rows counted from 1: `"corpus.jsonl:12"`.

    Raises:
        SelfRepairError: the source does not exist or is of an unknown kind (at once); it is empty, damaged,
            or a row has no text (when the iterator gets there).
    """
    if source == "builtin":
        return not_empty(builtin_documents(), "The installed Python's standard library")
    path = _on_disk(source)
    if path is not None and path.is_dir():
        return not_empty(folder_documents(path, most), f"The folder {source}")
    if path is not None:
        return not_empty(file_documents(path, field, _fix(), most), f"The file {source}")
    dataset = parse_dataset(source)
    if dataset is not None and not source.lower().endswith(suffixes()):
        return not_empty(hub_documents(dataset, field, most), f"The dataset {source}")
    shown = source if len(source) <= 200 else source[:200] + "…"
    raise SelfRepairError(f"There is no file or folder {shown!r}, and it is no dataset's name.", _fix())


def traces(source: str) -> dict[str, object]:
    """What identifies a source, also among sources of the same name; JSON-able.

    Returns:
        `python` (version) for the built-in text; `path` and, for a file, `bytes` and `sha256` (None for a file too
        large to read twice); `revision` (commit) for a dataset of the hub, None if the hub does not give it.
    """
    if source == "builtin":
        return {"python": platform.python_version()}
    path = _on_disk(source)
    if path is None:
        dataset = parse_dataset(source)
        return {} if dataset is None else {"revision": revision(dataset)}
    if path.is_dir():
        return {"path": readable(str(path.resolve()))}
    size = path.stat().st_size
    with open_regular(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest() if size <= _HASHED else None
    return {"path": readable(str(path.resolve())), "bytes": size, "sha256": digest}


def source_in_words(provenance: Mapping[str, object]) -> str:
    """A text's source; of the built-in one also the Python version, since other versions have other texts."""
    source = str(provenance.get("source", "unknown source"))
    return f"{source} (Python {provenance['python']})" if "python" in provenance else source


def _on_disk(source: str) -> Path | None:
    """The existing file or folder that a source names.

    Raises:
        SelfRepairError: it is a pipe, a socket or a device.
    """
    try:
        path = Path(source).expanduser()
        if not source or not path.exists():
            return None
        if not path.is_dir():
            require_regular(path)  # a pipe or a device may never end
        return path
    except (OSError, RuntimeError):  # a name longer than any file's; the home of an unknown user
        return None
