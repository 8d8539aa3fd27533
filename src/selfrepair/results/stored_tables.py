"""Tables of a results folder, verified by their digests when they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, TypeVar

import pyarrow as pa

from selfrepair.errors import SelfRepairError
from selfrepair.results import schema
from selfrepair.results.atomic_files import first_line
from selfrepair.results.proven import Damaged, Stored
from selfrepair.results.size_limits import bounded_batches, bounded_table

Part = TypeVar("Part")


def read_windows(stored: Stored) -> pa.Table:
    """The table in a `windows.parquet`.

    Raises:
        SelfRepairError: there is none, or it is damaged.
    """
    return read_part(stored, bounded_table, lambda table: schema.check_windows(table.schema))


def read_tokens(stored: Stored) -> pa.Table:
    """The table in a `tokens.parquet`, with one set of document names.

    Raises:
        SelfRepairError: there is none, or it is damaged.
    """
    return read_part(stored, bounded_table, lambda table: schema.check_tokens(table.schema)).unify_dictionaries()


def token_batches(stored: Stored, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Columns of a `tokens.parquet`, some rows at a time.

    Raises:
        SelfRepairError: there is none, or it is damaged.
    """
    with _reading(stored), stored.open() as file:
        yield from bounded_batches(file, columns=columns)


def read_part(stored: Stored, reader: Callable[[BinaryIO], Part], check: Callable[[Part], None]) -> Part:
    """A stored file, verified, parsed and checked.

    Args:
        stored: the file.
        reader: parses it.
        check: raises if what was read is not valid.

    Raises:
        SelfRepairError: it is missing, damaged, or fails the check; names the file.
    """
    with _reading(stored), stored.open() as file:
        part = reader(file)
    try:
        check(part)
    except SelfRepairError as problem:
        raise SelfRepairError(f"{stored.path}: {problem.problem}", problem.fix) from None
    return part


@contextmanager
def _reading(stored: Stored) -> Iterator[None]:
    """Turns whatever goes wrong in reading a file into an error that names it."""
    path = stored.path
    if not path.is_file():
        raise SelfRepairError(
            f"The results folder {path.parent} has no {path.name}.",
            stored.fix or "The run did not get that far, or this is not a results folder.",
        )
    try:
        yield
    except SelfRepairError:
        raise
    except Exception as problem:  # h5py, pyarrow and json each have their own kinds
        if isinstance(problem.__cause__ or problem.__context__, Damaged):
            raise (problem.__cause__ or problem.__context__) from None  # type: ignore[misc]
        raise SelfRepairError(
            f"Cannot read {path}: it is cut short or not what its name says ({first_line(problem)}).",
            "Copy the folder again, or run the measurement again.",
        ) from problem
