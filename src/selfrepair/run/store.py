"""Finished units of work as files that prove themselves."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from selfrepair.errors import SelfRepairError
from selfrepair.results.files import make_folder, put
from selfrepair.run import claims

Arrays = dict[str, np.ndarray]
UNITS = "units"
_NAME = re.compile(r"(?P<stage>[a-z]+)-(?P<number>\d{6})-(?P<digest>[0-9a-f]{32})\.safetensors")


@dataclass(frozen=True)
class Store:
    """The `units/` folder of a run.

    A unit's file carries the sha256 of its content in its name and which unit of which plan it is in its header, is
    written under a temporary name and renamed; so what is there is whole, unaltered and of this run, or is not counted.

    Attributes:
        folder: the results folder.
        plan_id: identity of the plan (`plans.identity`).
    """

    folder: Path
    plan_id: str

    @property
    def units(self) -> Path:
        """Where unit files are."""
        return self.folder / UNITS

    def write(self, stage: str, number: int, arrays: Arrays) -> None:
        """Puts a finished unit in its place.

        Raises:
            SelfRepairError: the disk is full or cannot be written to.
        """
        plain = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
        # One entry: safetensors writes several in random order, and the same unit has to be the same file.
        content = save(plain, {"unit": self._label(stage, number)})
        digest = hashlib.sha256(content).hexdigest()[:32]
        _make(self.units)
        put(self.units / f"{stage}-{number:06d}-{digest}.safetensors", content)

    def finished(self, stage: str) -> dict[int, Path]:
        """Files of the finished units of a stage by number; their contents are not looked at."""
        found: dict[int, Path] = {}
        for path in sorted(self.units.glob(f"{stage}-*.safetensors")):
            match = _NAME.fullmatch(path.name)
            if match is not None and match["stage"] == stage:
                found[int(match["number"])] = path
        return found

    def sound(self, stage: str) -> dict[int, Path]:
        """Finished units whose content is what their name says; others are put aside, to be done again."""
        for path in self.units.glob(f"{stage}-*.safetensors"):
            if self.is_sound(path):
                continue
            try:
                path.replace(path.with_suffix(".garbled"))
            except FileNotFoundError:
                pass  # another runner was quicker
            except OSError as error:
                raise SelfRepairError(f"Cannot put {path} aside, which is garbled: {error}.", "Remove it.") from error
        return self.finished(stage)

    def read(self, path: Path, prefix: str = "") -> Arrays:
        """A unit's arrays; only those whose names start with `prefix`, which is cut off.

        Raises:
            SelfRepairError: the file cannot be read.
        """
        try:
            with safe_open(path, "numpy") as file:
                names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
                return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
        except (OSError, SafetensorError) as error:
            raise SelfRepairError(
                f"Cannot read the unit {path.name}: {error}.", "Resume the run: what is garbled is done again."
            ) from error

    def is_sound(self, path: Path) -> bool:
        """Whether a unit's file is whole, unaltered, of this run, and the unit that its name says."""
        match = _NAME.fullmatch(path.name)
        if match is None:
            return False
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()[:32]
            with safe_open(path, "numpy") as file:
                label = (file.metadata() or {}).get("unit")
        except (OSError, SafetensorError):
            return False
        return digest == match["digest"] and label == self._label(match["stage"], int(match["number"]))

    def _label(self, stage: str, number: int) -> str:
        return f"{self.plan_id} {stage} {number}"

    @contextmanager
    def claim(self, stage: str, number: int) -> Iterator[bool]:
        """Yields whether the unit is ours to do. A claim of a runner that has died soon counts for nothing.

        Two runners that do the same unit all the same do no harm: they write the same file.
        """
        _make(self.units)
        with claims.claim(self.units, f"{stage}-{number:06d}") as ours:
            yield ours


def _make(folder: Path) -> None:
    try:
        make_folder(folder)
    except OSError as error:
        raise SelfRepairError(f"Cannot make the folder {folder}: {error}.", "Free some space.") from error
