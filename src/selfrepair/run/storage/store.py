"""Checksummed unit files, and claims that keep workers from doing the same unit twice."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from selfrepair.errors import SelfRepairError
from selfrepair.progress import say
from selfrepair.results.atomic_files import make_folder, putting
from selfrepair.results.proven import Damaged
from selfrepair.run.storage import unit_claims
from selfrepair.run.storage.finished_unit import Unit
from selfrepair.run.storage.log import log
from selfrepair.run.storage.unit_file import FIX, NAME, Arrays, Label, plan_mark, read_header, sealed, unsealed

UNITS, RESULTS = "units", "results"  # the folder; what one process at a time writes
_WAIT = 0.5  # seconds between looks whether another is done


@dataclass(frozen=True)
class Store:
    """The `units/` folder of a run.

    A unit's file is verified by its name (`unit_file`), records which unit of which plan it is, is written under a
    temporary name and renamed; so what is there is whole, unaltered and of this run, or does not count. That
    is checked when a stage starts, and again whenever bytes of a unit are used.

    Attributes:
        folder: the results folder.
        plan_id: identity of the plan (`run_plan.identity`).
    """

    folder: Path
    plan_id: str

    @property
    def units(self) -> Path:
        """Where unit files are."""
        return self.folder / UNITS

    def write(self, stage: str, number: int, arrays: Arrays, made_of: Sequence[str] = ()) -> None:
        """Puts a finished unit in its place.

        Args:
            stage: stage of the run.
            number: number of the unit.
            arrays: its results.
            made_of: digests of the units that this one was made from.

        Raises:
            SelfRepairError: the disk is full or cannot be written to.
        """
        name, *parts = sealed(arrays, Label(self.plan_id, stage, number, tuple(made_of)))
        _make(self.units)
        with putting(self.units / name) as file:
            for part in parts:
                file.write(part)

    def finished(self, stage: str) -> dict[int, Unit]:
        """Finished units of a stage by number, in its order; their contents are verified when they are read."""
        return {unit.number: unit for unit in self._files(stage)}

    def check(self, stage: str) -> tuple[dict[int, Unit], list[Damaged]]:
        """Reads every unit of a stage once and changes nothing: the intact ones, and what is wrong with others."""
        sound, damaged = {}, []
        for unit in self._files(stage):
            assert unit.path is not None
            try:
                self.prove(unit.path)
                sound[unit.number] = unit
            except Damaged as problem:
                damaged.append(problem)
        return sound, damaged

    def _files(self, stage: str) -> list[Unit]:
        """Unit files of a stage of this plan by their names, ordered."""
        paths = sorted(self.units.glob(f"{stage}-*-{plan_mark(self.plan_id)}-*.safetensors"))
        matches = [(path, NAME.fullmatch(path.name)) for path in paths]
        return [Unit(int(match["number"]), path) for path, match in matches if match and match["stage"] == stage]

    def sound(self, stage: str) -> dict[int, Unit]:
        """Finished units of a stage, each of which has just been read whole; damaged ones are put aside."""
        _, damaged = self.check(stage)
        for problem in damaged:
            self.put_aside(problem)
        return self.finished(stage)

    def put_aside(self, damage: Damaged) -> None:
        """Renames a unit that cannot be used, so that it is done again; reports it on the terminal and in the log.

        Raises:
            SelfRepairError: it cannot be renamed.
        """
        path = damage.path
        if not path.exists():
            self.tell(damage.problem)
            return
        try:
            path.replace(path.with_suffix(".aside"))
        except FileNotFoundError:
            return  # another runner was quicker, and has reported it
        except OSError as error:
            raise SelfRepairError(f"Cannot put {path} aside, which is damaged: {error}.", "Remove it.") from error
        self.tell(f"{damage.problem} It does not count, and is now called {path.with_suffix('.aside').name}.")

    def tell(self, message: str) -> None:
        """Reports something about finished work on the terminal and in the log."""
        log(self.folder, message)
        say(message)

    def foreign(self) -> list[Path]:
        """Unit files of other plans."""
        mine, paths = plan_mark(self.plan_id), self.units.glob("*.safetensors")
        return sorted(path for path in paths if (match := NAME.fullmatch(path.name)) and match["plan"] != mine)

    def strangers(self) -> str:
        """A message about units of other plans, which do not count; empty if there are none.

        Raises:
            SelfRepairError: every unit here is of another plan.
        """
        foreign, plan = self.foreign(), self.folder / "plan.json"
        if not foreign:
            return ""
        if any(self.units.glob(f"*-{plan_mark(self.plan_id)}-*.safetensors")):
            return (
                f"{len(foreign)} units in {self.units} are of another plan than {plan}: they do not count, and stay as "
                f"they are ({foreign[0].name} is one)."
            )
        raise SelfRepairError(
            f"All {len(foreign)} finished units in {self.units} are of another plan than {plan}. They were made with a "
            f"plan of identity {_plan_of(foreign[0])}; this one has {self.plan_id}.",
            "Bring back the plan.json and windows.parquet that they were made with, or start a new run elsewhere.",
        )

    def prove(self, path: Path) -> None:
        """Reads a unit's file once.

        Raises:
            Damaged: it is gone, cut short, altered, of another run, or not the unit that its name says.
        """
        label = read_header(path).label  # from the disk, not from memory
        if label.plan != self.plan_id:
            raise Damaged(path, f"{path} is a unit of plan {label.plan}, not of {self.plan_id}.", FIX)
        with unsealed(path) as file:
            file.check()

    @contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """A lock for what only one process at a time may do; waits until no other holds it."""
        while True:
            with self.claim(what, 0) as ours:
                if ours:
                    yield
                    return
            time.sleep(_WAIT)

    @contextmanager
    def claim(self, stage: str, number: int) -> Iterator[bool]:
        """Yields whether the unit is ours to do. A claim of a runner that has died soon counts for nothing.

        Two runners that do the same unit all the same do no harm: they write the same file.
        """
        _make(self.units)
        with unit_claims.claim_unit(self.units, f"{stage}-{number:06d}") as ours:
            yield ours


def _make(folder: Path) -> None:
    try:
        make_folder(folder)
    except OSError as error:
        raise SelfRepairError(f"Cannot make the folder {folder}: {error}.", "Free some space.") from error


def _plan_of(path: Path) -> str:
    """Identity of the plan that a unit file belongs to; `unknown` if it is damaged."""
    try:
        return read_header(path).label.plan
    except Damaged:
        return "unknown"
