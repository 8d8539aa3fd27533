"""Where documents come from: the built-in text, files, folders, datasets on the Hugging Face hub."""

from collections.abc import Iterator
from pathlib import Path

from selfrepair.errors import SelfRepairError
from selfrepair.text.builtin import builtin_documents
from selfrepair.text.document import Document, not_empty
from selfrepair.text.files import SUFFIXES, file_documents, folder_documents
from selfrepair.text.hub import hub_documents, parse_dataset

__all__ = ["Document", "read_documents"]

_FIX = (
    f'Give "builtin", a file ({", ".join(SUFFIXES)}), a folder of .txt files, '
    "or a dataset of the Hugging Face hub (owner/name, owner/name:config, owner/name:config/split)."
)


def read_documents(source: str, *, field: str = "text") -> Iterator[Document]:
    """Read the documents of a source, lazily and in the source's order.

    Args:
        source: `"builtin"` (the Python standard library's own prose and code); a `.txt` file (one document)
            or a folder of them (one document each, sorted by name); a `.jsonl`, `.jsonl.gz` or `.jsonl.zst`
            file (one document a line); a `.parquet` file (one document a row); else a dataset of the Hugging
            Face hub, `owner/name`, `owner/name:config`, `owner/name/split` or `owner/name:config/split`
            (split `train` when none is given), which is streamed. What exists on disk is taken for a file or
            a folder first.
        field: the field or column that holds the text (not used by `"builtin"` and `.txt`).

    Returns:
        An iterator over documents. Names are file name and row, rows counted from 1: `"corpus.jsonl:12"`.

    Raises:
        SelfRepairError: the source does not exist or is of an unknown kind (at once); it is empty, damaged,
            or a row has no text (when the iterator gets there).
    """
    if source == "builtin":
        return not_empty(builtin_documents(), "The installed Python's standard library")
    path = Path(source)
    try:
        path = path.expanduser()
        is_folder, is_file = bool(source) and path.is_dir(), path.is_file()
    except (OSError, RuntimeError):  # a name longer than any file's; the home of an unknown user
        is_folder = is_file = False
    if is_folder:
        return not_empty(folder_documents(path), f"The folder {source}")
    if is_file:
        return not_empty(file_documents(path, field, _FIX), f"The file {source}")
    dataset = parse_dataset(source)
    if dataset is not None and not source.lower().endswith(SUFFIXES):
        return not_empty(hub_documents(dataset, field), f"The dataset {source}")
    shown = source if len(source) <= 200 else source[:200] + "…"
    raise SelfRepairError(f"There is no file or folder {shown!r}, and it is no dataset's name.", _FIX)
