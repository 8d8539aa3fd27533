"""How far a run has come, from its folder alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selfrepair.results import folder
from selfrepair.run import plans, survey, sweep
from selfrepair.run.store import Store


@dataclass(frozen=True)
class Status:
    """Finished units of a run.

    Attributes:
        plan: its plan.
        units: how many units it has.
        surveyed: how many have had their clean pass.
        swept: how many are done.
        garbled: unit files that are not what their names say; they are done again.
        claimed: units that some worker is at, or was when it died.
        merged: whether there are results.
    """

    plan: plans.Plan
    units: int
    surveyed: int
    swept: int
    garbled: list[str]
    claimed: list[str]
    merged: bool

    @property
    def complete(self) -> bool:
        """Whether every unit is done."""
        return self.swept == self.units


def status(path: str | Path) -> Status:
    """Looks at a results folder; reads every unit file once, and changes nothing.

    Raises:
        SelfRepairError: there is no run there.
    """
    place = Path(path)
    plan = folder.read_plan(place)
    store = Store(place, plans.identity(plan))
    surveyed, swept = store.finished(survey.STAGE), store.finished(sweep.STAGE)
    garbled = [file.name for file in (*surveyed.values(), *swept.values()) if not store.is_sound(file)]
    return Status(
        plan=plan,
        units=-(-plan["text"]["windows"] // plan["windows_per_unit"]),
        surveyed=len(surveyed),
        swept=len(swept),
        garbled=garbled,
        claimed=sorted(file.stem for file in store.units.glob("*.claim")),
        merged=(place / folder.HEADS).is_file(),
    )
