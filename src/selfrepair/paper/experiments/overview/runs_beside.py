"""Several runs shown together: reading, naming and describing them, and one table of their heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from selfrepair.errors import SelfRepairError
from selfrepair.paper.inputs.recipe import NextBatch
from selfrepair.paper.numbers.over_documents import Number
from selfrepair.paper.pictures.exhibit_captions import about_run
from selfrepair.report.captions import fact, operator_with_donors, positions_left_out
from selfrepair.results.runs import Run


def read_beside(folders: Sequence[Path]) -> tuple[Run, ...]:
    """Runs to show together with the first: of other models, or of the same with another operator or text.

    Args:
        folders: finished results folders.

    Raises:
        SelfRepairError: no such folder, a run that is not complete, or one without the filter `all`.
    """
    from selfrepair.results.run_folder import load_run

    runs = tuple(load_run(folder) for folder in folders)
    for folder, run in zip(folders, runs, strict=True):
        if run.outcome["status"] != "complete":
            raise SelfRepairError(
                f"The run in {folder} is {run.outcome['status']}.", f"Finish it first: selfrepair resume {folder}."
            )
        if "all" not in run.filters:
            raise SelfRepairError(
                f"The run in {folder} has no filter 'all', which Figures 2 and 20 to 24 show.",
                "Measure it with --filter all --filter top:0.02.",
            )
    return runs


def names_of_runs(runs: Sequence[Run]) -> list[str]:
    """Names of runs in panels: the model; the operator too if operators differ; numbered if names still coincide."""
    several = len({fact(run, "operator") for run in runs}) > 1
    names = [fact(run, "model") + (f", {fact(run, 'operator')} ablation" if several else "") for run in runs]
    alike = len(set(names)) < len(names)
    return [f"{name}, run {number}" if alike else name for number, name in enumerate(names, 1)]


def about_all(runs: Sequence[Run], labels: Sequence[str]) -> str:
    """Every run under its filter, for captions, and how they differ besides the model.

    Args:
        runs: the runs, in the order of their panels.
        labels: the filter of each.
    """
    if len(runs) == 1:
        return about_run(runs[0], labels[0])
    description = " ".join(
        f"({number}) {about_run(run, label)}" for number, (run, label) in enumerate(zip(runs, labels, strict=True), 1)
    )
    kinds = {
        "the ablation operator": [_operator_text(run) for run in runs],
        "the filter": list(labels),
        "the positions counted": [positions_left_out(run) for run in runs],
        "the text": [fact(run, "text") for run in runs],
    }
    unlike = [f"{kind} ({'; '.join(dict.fromkeys(values))})" for kind, values in kinds.items() if len(set(values)) > 1]
    if unlike:
        description += f" These runs are not alike in {', '.join(unlike)}: their panels differ by that too."
    return f"Runs, in the order of their panels: {description}"


def _operator_text(run: Run) -> str:
    return operator_with_donors(run) + (" of the original recipe" if fact(run, "operator") == NextBatch(1).name else "")


def prefixes(runs: Sequence[Run]) -> list[str]:
    """Prefixes of panels' titles: the run's name, or nothing if there is one run."""
    return [""] if len(runs) == 1 else [f"{name}: " for name in names_of_runs(runs)]


def numbers_of_all(
    runs: Sequence[Run], labels: Sequence[str], of: Callable[[Run, str], tuple[Number, ...]]
) -> tuple[Number, ...]:
    """The first run's numbers, then those of the others under their names."""
    numbers = list(of(runs[0], labels[0]))
    for run, label, name in list(zip(runs, labels, prefixes(runs), strict=True))[1:]:
        numbers += [replace(number, name=f"{name}{number.name}") for number in of(run, label)]
    return tuple(numbers)


def heads_of(run: Run, label: str) -> pd.DataFrame:
    """Every head as a row, with intervals."""
    table = run.table(label, top=None)
    table.insert(0, "model", fact(run, "model"))
    return table.sort_values(["layer", "head"]).reset_index(drop=True)


def heads_of_all(runs: Sequence[Run], labels: Sequence[str]) -> pd.DataFrame:
    """Heads of all runs, with the run's number from 1."""
    tables = [heads_of(run, label) for run, label in zip(runs, labels, strict=True)]
    for number, table in enumerate(tables, 1):
        table.insert(0, "run", number)
        table.insert(2, "operator", fact(runs[number - 1], "operator"))
    return pd.concat(tables, ignore_index=True)
