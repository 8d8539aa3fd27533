"""`manifest.json`: digests of the files of a results folder, written after all of them.

Results are made in a folder of their own, and swapped in: the old manifest goes first, the new one comes last. A
process killed in between leaves a folder without a manifest, which is not read, and never files of two runs.
Pages and pictures are made from the results and may be made again at any time; they are not in the manifest.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Any

from selfrepair.errors import SelfRepairError
from selfrepair.reading import parsed_json
from selfrepair.results.atomic_files import cannot, first_line, put, sync_folder
from selfrepair.results.proven import SHORT, Damaged, Digests, Stored, opened

MANIFEST = "manifest.json"
STAGING = ".results-being-written"
_SAYS = "sha256 of every file of these results; the first half of that of each block lets a part be proven alone"
_MOST = 2**26  # bytes of a manifest: blocks of a results file of 500 GB


def staging(folder: Path) -> Path:
    """A fresh folder for results that are being made, inside the results folder; what a killed process left is removed.

    Raises:
        SelfRepairError: it cannot be made.
    """
    staged = folder / STAGING
    try:
        if staged.exists():
            shutil.rmtree(staged)
        staged.mkdir()
    except OSError as problem:
        raise cannot("make the folder", staged, problem) from problem
    return staged


def swap(folder: Path, files: Mapping[str, Digests], optional: tuple[str, ...] = ()) -> None:
    """Takes finished files from the staging folder into their places, and writes the manifest last.

    Args:
        folder: the results folder.
        files: every file of the results by name; those that are not in the staging folder are in their places already.
        optional: names of files that are removed where they are not among the results.

    Raises:
        SelfRepairError: the disk is full, or the folder cannot be written to.
    """
    made, manifest = folder / STAGING, folder / MANIFEST
    put(made / MANIFEST, _text(files))  # first here, so that a full disk leaves the old results as they were
    try:
        removed = [name for name in optional if name not in files and (folder / name).exists()]
        changed = [name for name in files if (made / name).is_file()]
        if any((folder / name).exists() for name in (*removed, *changed)):
            manifest.unlink(missing_ok=True)  # its files are about to change
        for name in removed:
            (folder / name).unlink(missing_ok=True)
        for name in changed:
            (made / name).replace(folder / name)
        sync_folder(folder)  # the manifest never outlasts a power cut that the files do not
        (made / MANIFEST).replace(manifest)
        sync_folder(folder)
    except OSError as problem:
        raise cannot("write", folder, problem) from problem
    with suppress(OSError):
        shutil.rmtree(made)


def discard(folder: Path) -> None:
    """Removes results that were not finished."""
    with suppress(OSError):
        shutil.rmtree(folder / STAGING)


def read_manifest(folder: Path) -> dict[str, Stored]:
    """The files of a results folder by name, with their digests; the files themselves are not read.

    Raises:
        SelfRepairError: there is no manifest, or it is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise SelfRepairError(
            f"{folder} has no {MANIFEST}: there are no results yet, or what wrote them was ended before it was done.",
            fix(folder),
        )
    try:
        with opened(path) as file:
            content = parsed_json(file.read(_MOST))
        if content.pop("checksum") != _checksum(content):
            raise Damaged(path, f"{path} is damaged: its checksum is not that of its content.", fix(folder))
        files = {name: _digests(given) for name, given in content["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as problem:
        raise Damaged(path, f"Cannot read {path}: {first_line(problem)}.", fix(folder)) from problem
    return {
        name: Stored(folder / name, digests, fix(folder, name))
        for name, digests in files.items()
        if Path(name).name == name
    }


def check_files(folder: Path) -> None:
    """Reads every file of a results folder once, if it has a manifest.

    Raises:
        SelfRepairError: one of them is gone, or not what was written.
    """
    if (folder / MANIFEST).is_file():
        for stored in read_manifest(folder).values():
            stored.check()


def fix(folder: Path, name: str = "") -> str:
    """How to repair a folder in which the named file is damaged."""
    if name == "windows.parquet":
        return "Copy it again from where the run was started: it is what was measured on."
    if (folder / "texts").is_dir():
        return f"`selfrepair merge {quote(str(folder / 'texts'))}/* --out NEW` merges them from the units."
    if (folder / "units").is_dir():
        return f"`selfrepair resume {quote(str(folder))}` merges them from the units."
    return "Copy the folder again, or run the measurement again."


def _text(files: Mapping[str, Digests]) -> bytes:
    listed = {
        name: {
            "sha256": digests.whole,
            "bytes": digests.size,
            "block": digests.block,
            "blocks": "".join(digests.blocks),
        }
        for name, digests in sorted(files.items())
    }
    content: dict[str, Any] = {"what": _SAYS, "files": listed}
    return (json.dumps({**content, "checksum": _checksum(content)}, indent=2) + "\n").encode()


def _digests(given: dict[str, Any]) -> Digests:
    blocks = given["blocks"]
    parts = tuple(blocks[at : at + SHORT] for at in range(0, len(blocks), SHORT))
    return Digests(int(given["bytes"]), int(given["block"]), parts, str(given["sha256"]))


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
