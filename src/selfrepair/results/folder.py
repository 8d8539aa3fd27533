"""The results folder: written whole or not at all, validated when read."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr

from selfrepair.errors import SelfRepairError
from selfrepair.results import extras, schema
from selfrepair.results.files import cannot, first_line, put, putting_table
from selfrepair.results.runs import Run
from selfrepair.results.windows import read_corpus, windows_parts
from selfrepair.terminal import readable
from selfrepair.text import Windows

PLAN, OUTCOME, WINDOWS = "plan.json", "outcome.json", "windows.parquet"
HEADS, TOKENS = "heads.nc", "tokens.parquet"
_NO_JSON_NUMBER = ("NaN", "Infinity", "-Infinity")
Part = TypeVar("Part")


def prepare_folder(path: str | Path) -> Path:
    """Make a folder for results.

    Raises:
        SelfRepairError: it exists and is not empty, is no folder, or cannot be made.
    """
    folder = Path(path)
    named = str(folder.absolute())
    if readable(named) != named:  # several libraries cannot open files there
        raise SelfRepairError(f"The folder name {named} is not valid Unicode.", "Give another folder with --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if next(folder.iterdir(), None) is not None:
            raise SelfRepairError(
                f"The results folder {folder} exists and is not empty.",
                "Give another folder with --out, or move this one away.",
            )
    except FileExistsError:
        raise SelfRepairError(f"{folder} is a file, not a folder.", "Give a folder with --out.") from None
    except OSError as problem:
        raise cannot("make the folder", folder, problem) from problem
    return folder


def write(run: Run, path: str | Path) -> Path:
    """Write a run's files; existing ones are replaced, each in one step.

    Raises:
        SelfRepairError: the disk is full, or the folder cannot be written to.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise cannot("make the folder", folder, problem) from problem
    write_json(run.plan, folder / PLAN)
    _write_table(run.windows, folder / WINDOWS)
    _write_table(schema.described_tokens(run.tokens), folder / TOKENS)
    write_results(run, folder)
    return folder


def write_results(run: Run, folder: Path) -> None:
    """Write `outcome.json` and `heads.nc` of a run whose other files are there."""
    write_json(run.outcome, folder / OUTCOME)
    put(folder / HEADS, _netcdf(run.heads))
    write_extras(run.extras, folder)


def _write_table(table: pa.Table, path: Path) -> None:
    with putting_table(path, table.schema) as add:
        add(table)


def write_extras(given: extras.Extras, folder: Path) -> None:
    """Write the optional tables that there are."""
    for name, table in given.tables().items():
        _write_table(extras.described(name, table), folder / f"{name}.parquet")


def read_extras(folder: Path) -> extras.Extras:
    """The optional tables of a results folder.

    Raises:
        SelfRepairError: one of them is garbled.
    """
    there = [name for name in extras.SCHEMAS if (folder / f"{name}.parquet").is_file()]
    read = {n: _read(folder / f"{n}.parquet", pq.read_table, partial(extras.check, n)) for n in there}
    return extras.Extras(**read)


def write_json(content: Mapping[str, object], path: Path) -> None:
    """Write a plan or an outcome."""
    plain = json.loads(json.dumps(content, default=_plain), parse_constant=str)  # JSON has no infinity: "Infinity"
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    put(path, (text + "\n").encode(errors="backslashreplace"))  # halves of surrogate pairs as JSON writes them


def write_corpus(windows: Windows, donors: np.ndarray, folder: Path) -> None:
    """Write `windows.parquet`, before the sweep begins.

    Args:
        windows: the corpus.
        donors: [window, donor] donor windows.
        folder: the results folder.
    """
    parts = windows_parts(windows, donors)
    first = next(parts)
    with putting_table(folder / WINDOWS, first.schema) as add:
        add(first)
        for part in parts:
            add(part)


def load(path: str | Path) -> Run:
    """Read a results folder and check it against the schema; its tables stay on disk until they are looked at.

    Raises:
        SelfRepairError: a file that is missing, cut short, garbled or not what it should be, by name.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise SelfRepairError(f"There is no results folder {folder}.", "Give the folder that a run wrote.")
    run = Run(
        plan=read_plan(folder),
        outcome=_read(folder / OUTCOME, _read_json, lambda _: None),
        kept=folder / TOKENS,
        corpus=folder / WINDOWS,
        heads=_read(folder / HEADS, _read_heads, schema.check_heads),
        extras=read_extras(folder),
    )
    _read(folder / TOKENS, pq.read_schema, schema.check_tokens)
    _read(folder / WINDOWS, pq.read_schema, schema.check_windows)
    return run


def read_plan(folder: Path) -> dict[str, Any]:
    """The plan of a results folder, finished or not.

    Raises:
        SelfRepairError: there is none, or it is garbled.
    """
    return _read(folder / PLAN, _read_json, lambda _: None)


def read_windows(path: Path) -> pa.Table:
    """The table in a `windows.parquet`.

    Raises:
        SelfRepairError: there is none, or it is garbled.
    """
    return _read(path, pq.read_table, lambda table: schema.check_windows(table.schema))


def read_tokens(path: Path) -> pa.Table:
    """The table in a `tokens.parquet`, with one set of document names.

    Raises:
        SelfRepairError: there is none, or it is garbled.
    """
    return _read(path, pq.read_table, lambda table: schema.check_tokens(table.schema)).unify_dictionaries()


def read_design(folder: Path) -> tuple[Windows, np.ndarray]:
    """Windows and donors [window, donor] of a results folder, finished or not.

    Raises:
        SelfRepairError: there are none, or they are garbled.
    """
    _read(folder / WINDOWS, pq.read_schema, schema.check_windows)
    return _read(folder / WINDOWS, read_corpus, lambda _: None)


def _read(path: Path, reader: Callable[[Path], Part], check: Callable[[Part], None]) -> Part:
    if not path.is_file():
        raise SelfRepairError(
            f"The results folder {path.parent} has no {path.name}.",
            "The run did not get that far, or this is not a results folder.",
        )
    try:
        part = reader(path)
    except Exception as problem:  # h5py, pyarrow and json each have their own kinds
        raise SelfRepairError(
            f"Cannot read {path}: it is cut short or not what its name says ({first_line(problem)}).",
            "Copy the folder again, or run the measurement again.",
        ) from problem
    try:
        check(part)
    except SelfRepairError as problem:
        raise SelfRepairError(f"{path}: {problem.problem}", problem.fix) from None
    return part


def _read_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"), object_hook=_with_numbers)
    if not isinstance(content, dict):
        raise TypeError(f"a JSON object was expected, not {type(content).__name__}")
    return content


def _with_numbers(content: dict[str, Any]) -> dict[str, Any]:
    """Turns the words that stand for what JSON has no number for back into numbers."""
    return {key: float(value) if value in _NO_JSON_NUMBER else value for key, value in content.items()}


def _read_heads(path: Path) -> xr.Dataset:
    with xr.open_dataset(path, engine="h5netcdf") as heads:
        return heads.load()


def _netcdf(heads: xr.Dataset) -> memoryview:
    """The bytes of `heads.nc`; made in memory because HDF5 crashes the interpreter on a full disk."""
    large = {name: {"zlib": True} for name in heads.data_vars if heads[name].ndim > len(schema.CELL)}
    content = io.BytesIO()
    heads.to_netcdf(content, engine="h5netcdf", encoding=large)
    return content.getbuffer()


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value)
