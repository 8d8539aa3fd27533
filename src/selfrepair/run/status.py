"""How far a run has come, from its folder alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selfrepair.results import folder
from selfrepair.run import claims, plans, survey, sweep, thresholds
from selfrepair.run.jobs import load_design
from selfrepair.run.looks import Looks
from selfrepair.run.store import Store


@dataclass(frozen=True)
class Status:
    """Finished units of a run.

    Attributes:
        plan: its plan.
        units: how many units it has.
        surveyed: how many have had their clean pass, garbled ones left out.
        swept: how many are done, garbled ones left out.
        enough: whether a run that may stop early has done as many as it needs.
        garbled: unit files that are not what their names say; they are done again.
        claimed: units that some worker is at, or was when it died.
        merged: whether there are results.
    """

    plan: plans.Plan
    units: int
    surveyed: int
    swept: int
    enough: bool
    garbled: list[str]
    claimed: list[str]
    merged: bool

    @property
    def complete(self) -> bool:
        """Whether every unit that is needed is done."""
        return self.enough or self.swept == self.units


def status(path: str | Path) -> Status:
    """Looks at a results folder; reads every unit file once, and changes nothing.

    Raises:
        SelfRepairError: there is no run there.
    """
    place = Path(path)
    design = load_design(place)
    store = Store(place, plans.identity(design.plan))
    files = {stage: store.finished(stage).values() for stage in (survey.STAGE, thresholds.STAGE, sweep.STAGE)}
    sound = {stage: [file for file in found if store.is_sound(file)] for stage, found in files.items()}
    return Status(
        plan=design.plan,
        units=len(design.units),
        surveyed=len(sound[survey.STAGE]),
        swept=len(sound[sweep.STAGE]),
        enough=len(sound[sweep.STAGE]) == len(files[sweep.STAGE]) and Looks(design, store).catch_up().stop is not None,
        garbled=[file.name for stage, found in files.items() for file in found if file not in sound[stage]],
        claimed=claims.claimed(store.units),
        merged=(place / folder.HEADS).is_file(),
    )
