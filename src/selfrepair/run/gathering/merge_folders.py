"""Folders brought together: parts of one run from machines that share no disk, and runs on different texts."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selfrepair.errors import SelfRepairError
from selfrepair.results import manifest, run_folder
from selfrepair.results.atomic_files import put
from selfrepair.results.plan import Plan, TextFacts
from selfrepair.results.proven import Damaged
from selfrepair.results.runs import Run
from selfrepair.results.windows_file import joined_windows
from selfrepair.run.gathering.all_texts import Pool, measured_text, pool_of
from selfrepair.run.gathering.merged_run import merged
from selfrepair.run.planning import run_plan
from selfrepair.run.planning.job import Design
from selfrepair.run.planning.reload import TEXTS, load_design, text_folders
from selfrepair.run.storage.finished_unit import Unit
from selfrepair.run.storage.store import Store
from selfrepair.run.storage.unit_file import proven_content
from selfrepair.run.unit import survey, sweep, thresholds

_STAGES = (survey.STAGE, thresholds.STAGE, sweep.STAGE)
_OWN = (
    *("created", "machine", "sample", "until"),
    *("heads_per_batch", "windows_per_batch", "windows_per_unit", "memory_predicted"),
    *("engine", "engine_settings", "engine_reason", "engine_exact"),
)
_OWN_OF = {
    "model": ("name", "source", "class", "vocabulary", "weights_sample"),  # the weights say which model it is
    "ablation": ("donors_fingerprint",),
    "versions": ("torch", "transformers", "numpy", "scipy"),
}
_COMMON_OF_TEXT = ("positions", "first_position")


def combine(sources: Sequence[str | Path], out: str | Path) -> Run:
    """Copies the units of several folders into a new one, and merges them.

    Folders of one plan are parts of one run, and become one. Folders of plans that differ in nothing but the text
    (and in how the work was cut) are runs on several texts: they are kept apart below `texts/` of the new folder,
    and merged to a run over all their documents, in which filters choose within each text.

    Example:
        >>> combine(["runs/resample"], "runs/merged").outcome["status"]
        'complete'

    Args:
        sources: folders of runs, finished or not, or of runs that were merged from such.
        out: the new folder.

    Returns:
        The merged run; its status says how many units are missing, if any are.

    Raises:
        SelfRepairError: runs that do not belong together, naming what differs; texts that share a document; nothing
            surveyed; a folder that is given twice; a folder that exists.
    """
    _require_different(sources)
    groups = _by_plan([one for source in sources for one in text_folders(Path(source))])
    for source in sources:
        manifest.check_files(Path(source))
    _require_alike([(places[0], load_design(places[0]).plan) for places in groups])
    _require_surveyed(groups)
    place = run_folder.prepare_folder(out)
    with _nothing_left_behind(place):
        if len(groups) == 1:
            made = [_gathered(groups[0], place)]
        else:
            made = [_gathered(group, _made(place / TEXTS / f"{number:02d}")) for number, group in enumerate(groups)]
        designs = [load_design(one) for one in made]
        pool = pool_of(*(measured_text(design, _store(one, design)) for one, design in zip(made, designs, strict=True)))
        plan = designs[0].plan if len(made) == 1 else _write_joined(pool, place)
        run = merged(pool, plan, place, f"{pool.missing} units missing" if pool.missing else "complete", 0.0)
        return run_folder.write_results(run, place)


@contextmanager
def _nothing_left_behind(place: Path) -> Iterator[None]:
    """Leaves a fresh folder as empty as it was where what fills it fails."""
    try:
        yield
    except BaseException:
        for one in place.iterdir():
            shutil.rmtree(one) if one.is_dir() else one.unlink()
        raise


def _store(place: Path, design: Design) -> Store:
    return Store(place, run_plan.identity(design.plan))


def _by_plan(places: Iterable[Path]) -> list[list[Path]]:
    """Folders of one plan together; in the order of the texts."""
    groups: dict[tuple[str, str], list[Path]] = {}
    for place in places:
        plan = load_design(place).plan
        groups.setdefault((plan["text"]["fingerprint"], run_plan.identity(plan)), []).append(place)
    return [groups[key] for key in sorted(groups)]


def _gathered(sources: Sequence[Path], place: Path) -> Path:
    """The plan, the text and all units of folders of one plan, in a new folder; the folders themselves are only read.

    Raises:
        Damaged: a unit is damaged in every folder that has it.
        SelfRepairError: folders whose thresholds differ, or all of whose units are of another plan.
    """
    design = load_design(sources[0])
    store = _store(place, design)
    run_folder.write_plan(design.plan, place / run_folder.PLAN)
    run_folder.write_corpus(design.windows, design.donors, place, design.plan)
    store.units.mkdir()
    stores = [Store(source, store.plan_id) for source in sources]
    for said in filter(None, (one.strangers() for one in stores)):
        store.tell(said)
    for stage in _STAGES:
        found = [one.finished(stage) for one in stores]
        for number in sorted({number for units in found for number in units}):
            _copy([units[number] for units in found if number in units], store)
    if len(list(store.units.glob(f"{thresholds.STAGE}-*"))) > 1:
        raise SelfRepairError(
            "These parts of one run have thresholds that differ: their machines do not round alike.",
            "Merge the parts of machines of one kind, and let `selfrepair resume` do the rest there.",
        )
    return place


def _copy(copies: Sequence[Unit], store: Store) -> None:
    """Copies a unit from the first folder in which it is sound.

    Raises:
        Damaged: it is nowhere sound.
    """
    problems = []
    for unit in copies:
        assert unit.path is not None
        try:
            put(store.units / unit.path.name, proven_content(unit.path))
        except Damaged as problem:
            problems.append(problem)
            continue
        for one in problems:
            store.tell(f"{one.problem} The copy in {unit.path.parent} is taken instead.")
        return
    raise problems[0]


def _made(place: Path) -> Path:
    place.mkdir(parents=True)
    return place


def _require_different(sources: Sequence[str | Path]) -> None:
    """Refuses a folder that is given twice, under whatever path: nothing would be merged, and it would look as if."""
    seen: dict[Path, str | Path] = {}
    for source in sources:
        where = Path(source).resolve()
        if where in seen:
            raise SelfRepairError(
                f"The folder {source} is given twice" + (f", also as {seen[where]}." if seen[where] != source else "."),
                "Give each folder once: copies of one run, or runs on different texts.",
            )
        seen[where] = source


def _require_surveyed(groups: Sequence[Sequence[Path]]) -> None:
    for places in groups:
        plan_id = run_plan.identity(load_design(places[0]).plan)
        if not any(Store(place, plan_id).finished(thresholds.STAGE) for place in places):
            raise SelfRepairError(
                f"{places[0]} has not finished its survey, so there is nothing to merge.",
                f"`selfrepair resume {places[0]}` goes on with it.",
            )


def _require_alike(given: Sequence[tuple[Path, Plan]]) -> None:
    """Refuses runs whose numbers do not mean the same.

    Raises:
        SelfRepairError: naming what differs.
    """
    first_place, first_plan = given[0]
    first = _meaning(first_plan)
    for place, plan in given[1:]:
        now = _meaning(plan)
        changed = [
            f"{n}: {first.get(n)} and {now.get(n)}" for n in sorted({*first, *now}) if first.get(n) != now.get(n)
        ]
        if not changed and plan["text"]["fingerprint"] == first_plan["text"]["fingerprint"]:
            changed = ["how the same text was cut into work: it would count twice"]
        if changed:
            raise SelfRepairError(
                f"{first_place} and {place} do not belong together; they differ in " + "; ".join(changed) + ".",
                "Merge copies of one run, or runs of one model with the same settings on different texts; lay "
                "others side by side with `selfrepair compare`.",
            )


def _meaning(plan: Plan) -> dict[str, Any]:
    """What a plan's numbers mean, flat: all but the text and how the work was done."""
    found: dict[str, Any] = {}
    text: dict[str, Any] = {**plan["text"]}
    for name, value in plan.items():
        if name == "text":
            found |= {f"text.{key}": text[key] for key in _COMMON_OF_TEXT}
        elif isinstance(value, dict) and name not in _OWN:
            found |= {f"{name}.{key}": one for key, one in value.items() if key not in _OWN_OF.get(name, ())}
        elif name not in _OWN:
            found[name] = value
    return found


def _write_joined(pool: Pool, place: Path) -> Plan:
    """Writes the plan and the text of several runs together."""
    designs = [one.design for one in pool.mergers]
    windows, donors = joined_windows([one.windows for one in designs], [one.donors for one in designs])
    texts = [one.plan["text"] for one in designs]
    text: TextFacts = {
        **texts[0],
        "source": str(windows.provenance["source"]),
        "fingerprint": windows.fingerprint,
        "windows": sum(text["windows"] for text in texts),
        "documents": sum(text["documents"] for text in texts),
        "scored_tokens": sum(text["scored_tokens"] for text in texts),
    }
    plan: Plan = {
        **designs[0].plan,
        "text": text,
        "texts": [one.plan for one in designs],
        "until": None,
        "created": max(one.plan["created"] for one in designs),
        "ablation": {**designs[0].plan["ablation"], "donors_fingerprint": run_plan.fingerprint(donors)},
    }
    run_folder.write_plan(plan, place / run_folder.PLAN)
    run_folder.write_corpus(windows, donors, place, plan)
    return plan
