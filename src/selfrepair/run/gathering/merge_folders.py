"""Merges folders: parts of one run from machines that share no disk, and runs on different texts."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selfrepair.errors import SelfRepairError
from selfrepair.results import manifest, run_folder
from selfrepair.results.atomic_files import put
from selfrepair.results.plan import PhasesFacts, Plan, TextFacts
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
    *("created", "machine", "sample", "until", "budget"),
    *("windows_per_batch", "windows_per_exact_batch", "windows_per_unit", "runs_held", "memory_predicted"),
    *("engine", "engine_settings", "engine_reason", "engine_exact"),
)
_OWN_OF = {
    "model": ("name", "source", "class", "vocabulary", "weights_sample"),  # the weights say which model it is
    "ablation": ("donors_fingerprint",),
    "phases": ("documents", "exact_documents"),
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
    groups = _by_plan([folder for source in sources for folder in text_folders(Path(source))])
    for source in sources:
        manifest.check_files(Path(source))
    _require_alike([(folders[0], load_design(folders[0]).plan) for folders in groups])
    _require_surveyed(groups)
    target = run_folder.prepare_folder(out)
    with _nothing_left_behind(target):
        if len(groups) == 1:
            made = [_gathered(groups[0], target)]
        else:
            made = [_gathered(group, _made(target / TEXTS / f"{number:02d}")) for number, group in enumerate(groups)]
        designs = [load_design(folder) for folder in made]
        stores = [_store(folder, design) for folder, design in zip(made, designs, strict=True)]
        pool = pool_of(*map(measured_text, designs, stores))
        plan = designs[0].plan if len(made) == 1 else _write_joined(pool, target)
        run = merged(pool, plan, target, f"{pool.missing} units missing" if pool.missing else "complete", 0.0)
        return run_folder.write_results(run, target)


@contextmanager
def _nothing_left_behind(target: Path) -> Iterator[None]:
    """Empties a new folder again if filling it fails."""
    try:
        yield
    except BaseException:
        for path in target.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def _store(folder: Path, design: Design) -> Store:
    return Store(folder, run_plan.identity(design.plan))


def _by_plan(folders: Iterable[Path]) -> list[list[Path]]:
    """Folders of one plan together; in the order of the texts."""
    groups: dict[tuple[str, str], list[Path]] = {}
    for folder in folders:
        plan = load_design(folder).plan
        groups.setdefault((plan["text"]["fingerprint"], run_plan.identity(plan)), []).append(folder)
    return [groups[key] for key in sorted(groups)]


def _gathered(sources: Sequence[Path], target: Path) -> Path:
    """The plan, the text and all units of folders of one plan, in a new folder; the folders themselves are only read.

    Raises:
        Damaged: a unit is damaged in every folder that has it.
        SelfRepairError: folders whose thresholds differ, or all of whose units are of another plan.
    """
    design = load_design(sources[0])
    store = _store(target, design)
    run_folder.write_plan(design.plan, target / run_folder.PLAN)
    run_folder.write_corpus(design.windows, design.donors, target, design.plan)
    store.units.mkdir()
    stores = [Store(source, store.plan_id) for source in sources]
    for strangers in filter(None, (store.strangers() for store in stores)):
        store.tell(strangers)
    for stage in _STAGES:
        per_store = [store.finished(stage) for store in stores]
        for number in sorted({number for units in per_store for number in units}):
            _copy([units[number] for units in per_store if number in units], store)
    if len(list(store.units.glob(f"{thresholds.STAGE}-*"))) > 1:
        raise SelfRepairError(
            "These parts of one run have thresholds that differ: their machines do not round alike.",
            "Merge the parts of machines of one kind, and let `selfrepair resume` do the rest there.",
        )
    return target


def _copy(copies: Sequence[Unit], store: Store) -> None:
    """Copies a unit from the first folder in which it is intact.

    Raises:
        Damaged: it is damaged in all of them.
    """
    damaged = []
    for unit in copies:
        assert unit.path is not None
        try:
            put(store.units / unit.path.name, proven_content(unit.path))
        except Damaged as error:
            damaged.append(error)
            continue
        for problem in damaged:
            store.tell(f"{problem.problem} The copy in {unit.path.parent} is taken instead.")
        return
    raise damaged[0]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _require_different(sources: Sequence[str | Path]) -> None:
    """Refuses a folder that is given twice, also by different paths: nothing would be merged, but it would look so."""
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
    for folders in groups:
        plan_id = run_plan.identity(load_design(folders[0]).plan)
        if not any(Store(folder, plan_id).finished(thresholds.STAGE) for folder in folders):
            raise SelfRepairError(
                f"{folders[0]} has not finished its survey, so there is nothing to merge.",
                f"`selfrepair resume {folders[0]}` goes on with it.",
            )


def _require_alike(given: Sequence[tuple[Path, Plan]]) -> None:
    """Refuses runs whose numbers do not mean the same.

    Raises:
        SelfRepairError: naming what differs.
    """
    first_folder, first_plan = given[0]
    first = _meaning(first_plan)
    for folder, plan in given[1:]:
        now = _meaning(plan)
        changed = [
            f"{n}: {first.get(n)} and {now.get(n)}" for n in sorted({*first, *now}) if first.get(n) != now.get(n)
        ]
        if not changed and plan["text"]["fingerprint"] == first_plan["text"]["fingerprint"]:
            changed = ["how the same text was cut into work: it would count twice"]
        if changed:
            raise SelfRepairError(
                f"{first_folder} and {folder} do not belong together; they differ in " + "; ".join(changed) + ".",
                "Merge copies of one run, or runs of one model with the same settings on different texts; compare "
                "others with `selfrepair compare`.",
            )


def _meaning(plan: Plan) -> dict[str, Any]:
    """All entries of a plan that give its numbers their meaning, flat: not the text, nor how the work was done."""
    facts: dict[str, Any] = {}
    text: dict[str, Any] = {**plan["text"]}
    for name, value in plan.items():
        if name == "text":
            facts |= {f"text.{key}": text[key] for key in _COMMON_OF_TEXT}
        elif isinstance(value, dict) and name not in _OWN:
            facts |= {f"{name}.{key}": entry for key, entry in value.items() if key not in _OWN_OF.get(name, ())}
        elif name not in _OWN:
            facts[name] = value
    return facts


def _phases_together(designs: Sequence[Design]) -> PhasesFacts | None:
    """Both phases over all texts."""
    given = [phases for design in designs if (phases := design.plan["phases"]) is not None]
    if not given:
        return None
    documents, exact = (sum(phases[name] for phases in given) for name in ("documents", "exact_documents"))
    return {**given[0], "documents": documents, "exact_documents": exact}


def _write_joined(pool: Pool, target: Path) -> Plan:
    """Writes the plan and the text of several runs together."""
    designs = [merger.design for merger in pool.mergers]
    windows, donors = joined_windows([design.windows for design in designs], [design.donors for design in designs])
    texts = [design.plan["text"] for design in designs]
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
        "texts": [design.plan for design in designs],
        "until": None,
        "budget": None,
        "phases": _phases_together(designs),
        "created": max(design.plan["created"] for design in designs),
        "ablation": {**designs[0].plan["ablation"], "donors_fingerprint": run_plan.fingerprint(donors)},
    }
    run_folder.write_plan(plan, target / run_folder.PLAN)
    run_folder.write_corpus(windows, donors, target, plan)
    return plan
