"""The results folder: written whole or not at all, verified and validated when read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from selfrepair.errors import SelfRepairError
from selfrepair.results import extras, manifest, netcdf, plan_file, schema
from selfrepair.results.atomic_files import cannot, make_folder, put, putting_table
from selfrepair.results.plan import Plan
from selfrepair.results.plan_file import write_json as write_json
from selfrepair.results.plan_file import write_plan as write_plan
from selfrepair.results.proven import Digests, Stored
from selfrepair.results.runs import Run
from selfrepair.results.size_limits import bounded_json, bounded_table
from selfrepair.results.stored_tables import read_part
from selfrepair.results.windows_file import read_corpus, windows_parts
from selfrepair.terminal import readable
from selfrepair.text import Windows

PLAN, OUTCOME, WINDOWS = "plan.json", "outcome.json", "windows.parquet"
HEADS, TOKENS = "heads.nc", "tokens.parquet"
NEEDED = (PLAN, OUTCOME, WINDOWS, HEADS, TOKENS)
EXTRAS = {name: f"{name}.parquet" for name in extras.SCHEMAS}
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
        make_folder(folder)
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


def write_run(run: Run, path: str | Path) -> Path:
    """Write a run's files; existing ones are replaced, all of them or none.

    Raises:
        SelfRepairError: the disk is full, or the folder cannot be written to.
    """
    folder = Path(path)
    try:
        make_folder(folder)
    except OSError as problem:
        raise cannot("make the folder", folder, problem) from problem
    made = manifest.staging(folder)
    try:
        notes = {**(run.windows.schema.metadata or {}), plan_file.COPY: plan_file.copy_of(run.plan)}
        corpus = _write_table(run.windows.replace_schema_metadata(notes), made / WINDOWS)
        kept = _write_table(schema.described_tokens(run.tokens), made / TOKENS)
        write_results(replace(run, corpus=corpus, kept=kept), folder)
    except BaseException:
        manifest.discard(folder)
        raise
    return folder


def write_results(run: Run, folder: Path) -> Run:
    """Write the results of a run, all or none of them, and last the manifest that proves them.

    Args:
        run: its kept tokens are in a file of the staging folder, or in `tokens.parquet`; its windows likewise.
        folder: the results folder.

    Returns:
        The same run; its tables are read from the folder.

    Raises:
        SelfRepairError: the disk is full, or the folder cannot be written to.
    """
    made = folder / manifest.STAGING
    made.mkdir(exist_ok=True)
    files = {
        PLAN: write_plan(run.plan, made / PLAN),
        OUTCOME: write_json(run.outcome, made / OUTCOME),
        HEADS: put(made / HEADS, netcdf.heads_bytes(run.interventions)),
        TOKENS: _proven(run.kept),
        WINDOWS: _proven(run.corpus),
        **_write_extras(run, folder),
    }
    manifest.swap(folder, files, tuple(EXTRAS.values()))
    kept, corpus = (Stored(folder / name, files[name], manifest.fix(folder)) for name in (TOKENS, WINDOWS))
    return replace(run, kept=kept, corpus=corpus)


def add_extras(run: Run, folder: Path) -> None:
    """Write the optional tables of a run whose numbers are in the folder, and a manifest that names them too.

    Raises:
        SelfRepairError: the results there are damaged, or rest on other units; the disk is full.
    """
    stored = manifest.read_manifest(folder)
    if read_part(stored[OUTCOME], _read_json, lambda _: None).get("made_of") != run.outcome.get("made_of"):
        raise SelfRepairError(f"The results in {folder} were made of other units meanwhile.", manifest.fix(folder))
    manifest.staging(folder)
    needed = {name: _proven(stored_file) for name, stored_file in stored.items() if name in NEEDED}
    files = needed | _write_extras(run, folder)
    manifest.swap(folder, files, tuple(EXTRAS.values()))


def _write_extras(run: Run, folder: Path) -> dict[str, Digests]:
    """Writes the optional tables into the staging folder."""
    made = folder / manifest.STAGING
    tables = {name: extras.described(name, table) for name, table in run.extras.tables().items()}
    return {EXTRAS[name]: _proven(_write_table(table, made / EXTRAS[name])) for name, table in tables.items()}


def _proven(table: pa.Table | Stored) -> Digests:
    assert isinstance(table, Stored)
    digests = Stored.as_it_is(table.path).digests if table.digests is None else table.digests
    assert digests is not None
    return digests


def _write_table(table: pa.Table, path: Path) -> Stored:
    with putting_table(path, table.schema) as file:
        file.add(table)
    return Stored(path, file.digests)


def read_extras(stored: Mapping[str, Stored]) -> extras.Extras:
    """The optional tables of a results folder.

    Args:
        stored: its files, from `manifest.read_manifest`.

    Raises:
        SelfRepairError: one of them is damaged.
    """
    present = {name: stored[file] for name, file in EXTRAS.items() if file in stored}
    checks = {name: partial(extras.check_extra, name) for name in present}
    return extras.Extras(
        **{name: read_part(stored_file, bounded_table, checks[name]) for name, stored_file in present.items()}
    )


def write_corpus(windows: Windows, donors: np.ndarray, folder: Path, plan: Mapping[str, object]) -> None:
    """Write `windows.parquet`, before the sweep begins.

    Args:
        windows: the corpus.
        donors: [window, donor] donor windows.
        folder: the results folder.
        plan: the run's plan, of which the file keeps a copy.
    """
    parts = windows_parts(windows, donors, {plan_file.COPY: plan_file.copy_of(plan)})
    first = next(parts)
    with putting_table(folder / WINDOWS, first.schema) as file:
        file.add(first)
        for part in parts:
            file.add(part)


def load_run(path: str | Path) -> Run:
    """Reads a results folder, proves it by its manifest and checks it against the schema.

    Every file is read once; the two large tables stay on disk until they are looked at, and are proven again then.

    Example:
        >>> load_run("runs/resample").outcome["status"]
        'complete'

    Args:
        path: the folder that a run wrote.

    Raises:
        SelfRepairError: a file that is missing, or not what was written, by name; results that were never finished.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise SelfRepairError(f"There is no results folder {folder}.", "Give the folder that a run wrote.")
    read_plan(folder)  # before the manifest is read: this reports what has changed, not only that something has
    stored = manifest.read_manifest(folder)
    for name in NEEDED:
        if name not in stored:
            raise SelfRepairError(f"{folder / manifest.MANIFEST} names no {name}.", manifest.fix(folder))
    for name in (TOKENS, WINDOWS):
        stored[name].check()
    run = Run(
        plan=read_part(stored[PLAN], partial(_read_plan, folder), lambda _: None),
        outcome=read_part(stored[OUTCOME], _read_json, lambda _: None),
        kept=stored[TOKENS],
        corpus=stored[WINDOWS],
        interventions=read_part(stored[HEADS], netcdf.read_heads, schema.check_heads),
        extras=read_extras(stored),
    )
    read_part(stored[TOKENS], pq.read_schema, schema.check_tokens)
    read_part(stored[WINDOWS], pq.read_schema, schema.check_windows)
    return run


def read_plan(folder: Path) -> Plan:
    """The plan of a results folder, finished or not.

    Raises:
        SelfRepairError: there is none, or it is not what the run was started with; names what was changed.
    """
    return read_part(Stored(folder / PLAN), partial(_read_plan, folder), lambda _: None)


def read_design(stored: Stored) -> tuple[Windows, np.ndarray]:
    """Windows and donors [window, donor] of a results folder, finished or not.

    Args:
        stored: its `windows.parquet`.

    Raises:
        SelfRepairError: there are none, or they are damaged.
    """
    read_part(stored, pq.read_schema, schema.check_windows)
    return read_part(stored, read_corpus, lambda _: None)


def _read_json(file: BinaryIO) -> dict[str, Any]:
    content = bounded_json(file)
    if not isinstance(content, dict):
        raise TypeError(f"a JSON object was expected, not {type(content).__name__}")
    plan: dict[str, Any] = plan_file.with_numbers(content)
    return plan


def _read_plan(folder: Path, file: BinaryIO) -> Plan:
    content = bounded_json(file)
    if not isinstance(content, dict):
        raise TypeError(f"a JSON object was expected, not {type(content).__name__}")
    return cast(Plan, plan_file.opened_plan(content, folder / PLAN, folder / WINDOWS))
