"""The progress of a run, from its folder alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selfrepair.errors import SelfRepairError
from selfrepair.results import manifest
from selfrepair.results.plan import Plan
from selfrepair.run.planning import run_plan
from selfrepair.run.planning.reload import load_design
from selfrepair.run.scheduling.early_stopping import UnitsSoFar
from selfrepair.run.storage import unit_claims
from selfrepair.run.storage.store import Store
from selfrepair.run.unit import survey, sweep, thresholds

MERGED = "merged"


@dataclass(frozen=True)
class Status:
    """Finished units of a run.

    Attributes:
        plan: its plan.
        units: how many units it has.
        surveyed: how many have had their clean pass, damaged ones left out.
        swept: how many are done, damaged ones left out.
        missing: how many the run still needs; a run that may stop early needs no more once it has enough.
        enough: whether a run that may stop early has done as many as it needs.
        damaged: unit files that are not what was written; they are done again.
        foreign: unit files of another plan, which do not count.
        claimed: units that some worker is doing, or was doing when it died.
        results: `merged`, `not merged yet`, or what is wrong with them.
    """

    plan: Plan
    units: int
    surveyed: int
    swept: int
    missing: int
    enough: bool
    damaged: list[str]
    foreign: list[str]
    claimed: list[str]
    results: str

    @property
    def complete(self) -> bool:
        """Whether every unit that is needed is done."""
        return self.missing == 0

    @property
    def merged(self) -> bool:
        """Whether there are results, and they are what was written."""
        return self.results == MERGED


def status(path: str | Path) -> Status:
    """Looks at a results folder; reads every unit file and every results file, and changes nothing.

    Raises:
        SelfRepairError: there is no run there.
    """
    folder = Path(path)
    design = load_design(folder)
    store = Store(folder, run_plan.identity(design.plan))
    surveyed, bad_surveys = store.check(survey.STAGE)
    _, bad_thresholds = store.check(thresholds.STAGE)
    swept, bad_sweeps = store.check(sweep.STAGE)
    so_far = UnitsSoFar(design, store)
    so_far.catch_up(swept)
    return Status(
        plan=design.plan,
        units=len(design.units),
        surveyed=len(surveyed),
        swept=len(so_far.finished),
        missing=len(so_far.missing),
        enough=so_far.stop is not None,
        damaged=[unit.path.name for unit in (*bad_surveys, *bad_thresholds, *bad_sweeps)],
        foreign=[path.name for path in store.foreign()],
        claimed=unit_claims.claimed(store.units),
        results=_results(folder),
    )


def _results(folder: Path) -> str:
    if not (folder / manifest.MANIFEST).is_file():
        return "not merged yet"
    try:
        manifest.check_files(folder)
    except SelfRepairError as problem:
        return problem.problem
    return MERGED
