"""Folders of one plan, worked on by machines that share no disk, brought together."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from selfrepair.errors import SelfRepairError
from selfrepair.results import folder
from selfrepair.results.runs import Run
from selfrepair.run import plans, survey, sweep, thresholds
from selfrepair.run.jobs import load_design
from selfrepair.run.merge import merger_of
from selfrepair.run.results import merged
from selfrepair.run.store import Store

_STAGES = (survey.STAGE, thresholds.STAGE, sweep.STAGE)


def combine(sources: Sequence[str | Path], out: str | Path) -> Run:
    """Copies the units of several folders of one plan into a new folder, and merges them.

    Args:
        sources: folders that were started from copies of one folder with a plan.
        out: the new folder.

    Returns:
        The merged run; its status says how many units are missing, if any are.

    Raises:
        SelfRepairError: folders of different plans, naming what differs; nothing surveyed; a folder that exists.
    """
    places = [Path(source) for source in sources]
    designs = [load_design(place) for place in places]
    _require_one_plan(places, [design.plan for design in designs])
    design, place = designs[0], folder.prepare_folder(out)
    folder.write_json(design.plan, place / folder.PLAN)
    shutil.copyfile(places[0] / folder.WINDOWS, place / folder.WINDOWS)
    store = Store(place, plans.identity(design.plan))
    store.units.mkdir()
    for source in places:
        theirs = Store(source, store.plan_id)
        for stage in _STAGES:
            for file in theirs.sound(stage).values():
                shutil.copyfile(file, store.units / file.name)
    if not store.finished(thresholds.STAGE):
        raise SelfRepairError(
            "None of these folders has finished its survey, so there is nothing to merge.",
            f"`selfrepair resume {place}` goes on with what they have together.",
        )
    missing = len(design.units) - len(store.finished(sweep.STAGE))
    run = merged(merger_of(design, store), place, "complete" if not missing else f"{missing} units missing", 0.0)
    folder.write_results(run, place)
    return run


def _require_one_plan(places: Sequence[Path], given: Sequence[plans.Plan]) -> None:
    first = given[0]
    for place, plan in zip(places[1:], given[1:], strict=True):
        if plans.identity(plan) != plans.identity(first):
            names = sorted({*plan, *first} - {"created"})
            changed = [f"{n}: {first.get(n)} and {plan.get(n)}" for n in names if plan.get(n) != first.get(n)]
            raise SelfRepairError(
                f"{places[0]} and {place} do not belong together; they differ in " + "; ".join(changed),
                "Start every part from a copy of one folder with its plan; lay different runs side by side with "
                "`selfrepair compare`.",
            )
