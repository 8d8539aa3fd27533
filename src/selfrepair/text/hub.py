"""Documents streamed from a dataset of the Hugging Face hub."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from selfrepair.errors import SelfRepairError
from selfrepair.text.document import Document, valid_text

_PART = r"[A-Za-z0-9][\w.-]*"
_PATTERN = re.compile(rf"(?P<name>{_PART}/{_PART})(:(?P<config>{_PART}))?(/(?P<split>{_PART}))?", re.ASCII)


class Dataset(NamedTuple):
    """A dataset's name on the hub, its configuration (None: the only one), and the split."""

    name: str
    config: str | None
    split: str


def parse_dataset(source: str) -> Dataset | None:
    """Read `owner/name[:config][/split]`; None when `source` does not look like that."""
    match = _PATTERN.fullmatch(source)
    return None if match is None else Dataset(match["name"], match["config"], match["split"] or "train")


def hub_documents(dataset: Dataset, field: str, most: int | None = None) -> Iterator[Document]:
    """Stream the texts of a dataset; nothing is downloaded ahead, no code of the dataset is run.

    Raises:
        SelfRepairError: the `datasets` package is missing (at once); the dataset cannot be opened or read, or
            a row has no text (when the iterator gets there).
    """
    try:
        import datasets
    except ImportError:
        raise SelfRepairError(
            f"Streaming {dataset.name} needs the package `datasets`, which is not installed.",
            "pip install 'selfrepair[datasets]' (or, if this was meant as a file, check its path).",
        ) from None
    return _stream(datasets, dataset, field, most)


def _stream(datasets: Any, dataset: Dataset, field: str, most: int | None) -> Iterator[Document]:
    try:
        rows = iter(
            datasets.load_dataset(
                dataset.name, dataset.config, split=dataset.split, streaming=True, trust_remote_code=False
            )
        )
    except Exception as error:
        raise _failed(dataset, error) from error
    number = 0
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except Exception as error:
            raise _failed(dataset, error) from error
        number += 1
        row_name = f"row {number} of {dataset.name}"
        if field not in row:
            shown = ", ".join(repr(str(name)[:40]) for name in list(row)[:10])
            raise SelfRepairError(
                f"There is no field {field!r} in {row_name}; the fields there: {shown}.",
                "Name the field that holds the text with --field.",
            )
        yield Document.cut(f"{dataset.name}:{number}", valid_text(row[field], row_name, field), most)


def revision(dataset: Dataset) -> str | None:
    """The commit that the hub has for a dataset now; None where it cannot be asked."""
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(dataset.name, timeout=10).sha
    except Exception:  # no network, no such dataset: its exceptions have no common base
        return None


def _failed(dataset: Dataset, error: Exception) -> SelfRepairError:
    """Any failure of the hub client, in the user's terms: its exceptions have no common base."""
    reason = (str(error).splitlines() or [""])[0]
    return SelfRepairError(
        f"The dataset {dataset.name} (configuration {dataset.config or 'default'}, split {dataset.split}) "
        f"cannot be read: {type(error).__name__}: {reason}",
        "If this was meant as a file, check its path. Otherwise check name, configuration and split "
        "(owner/name:config/split), the network, and whether the dataset must be unlocked; a local .jsonl or "
        ".parquet file works too.",
    )
