"""Several runs shown beside another: how they are read, called, described and put in one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from selfrepair.errors import SelfRepairError
from selfrepair.paper.inputs.recipe import NextBatch
from selfrepair.paper.numbers.over_documents import Number
from selfrepair.paper.pictures.captions import about
from selfrepair.report.captions import fact, operator_with_donors, positions_left_out
from selfrepair.results.runs import Run


def read_beside(folders: Sequence[Path]) -> tuple[Run, ...]:
    """Runs to be shown beside another: of other models, or of the same with another operator or text.

    Args:
        folders: finished results folders.

    Raises:
        SelfRepairError: no such folder, a run that is not complete, or one without the filter `all`.
    """
    from selfrepair.results.run_folder import load_run

    found = tuple(load_run(folder) for folder in folders)
    for folder, run in zip(folders, found, strict=True):
        if run.outcome["status"] != "complete":
            raise SelfRepairError(
                f"The run in {folder} is {run.outcome['status']}.", f"Go on with it first: selfrepair resume {folder}."
            )
        if "all" not in run.filters:
            raise SelfRepairError(
                f"The run in {folder} has no filter 'all', which Figures 2 and 20 to 24 show.",
                "Measure it with --filter all --filter top:0.02.",
            )
    return found


def names(runs: Sequence[Run]) -> list[str]:
    """What runs are called in panels: the model; with the operator too where operators differ; numbered where these
    are alike."""
    several = len({fact(run, "operator") for run in runs}) > 1
    found = [fact(run, "model") + (f", {fact(run, 'operator')} ablation" if several else "") for run in runs]
    alike = len(set(found)) < len(found)
    return [f"{name}, run {place}" if alike else name for place, name in enumerate(found, 1)]


def about_all(runs: Sequence[Run], labels: Sequence[str]) -> str:
    """Every run under its filter, for captions, and in what besides the model they differ.

    Args:
        runs: in the order of their panels.
        labels: the filter of each.
    """
    if len(runs) == 1:
        return about(runs[0], labels[0])
    said = " ".join(
        f"({place}) {about(run, label)}" for place, (run, label) in enumerate(zip(runs, labels, strict=True), 1)
    )
    kinds = {
        "the ablation operator": [_said_operator(run) for run in runs],
        "the filter": list(labels),
        "the positions counted": [positions_left_out(run) for run in runs],
        "the text": [fact(run, "text") for run in runs],
    }
    unlike = [f"{kind} ({'; '.join(dict.fromkeys(found))})" for kind, found in kinds.items() if len(set(found)) > 1]
    if unlike:
        said += f" These runs are not alike in {', '.join(unlike)}: their panels differ by that too."
    return f"Runs, in the order of their panels: {said}"


def _said_operator(run: Run) -> str:
    return operator_with_donors(run) + (" of the original recipe" if fact(run, "operator") == NextBatch(1).name else "")


def prefixes(runs: Sequence[Run]) -> list[str]:
    """In front of panels' titles: the run's name, nothing where there is one run."""
    return [""] if len(runs) == 1 else [f"{name}: " for name in names(runs)]


def numbers_of_all(
    runs: Sequence[Run], labels: Sequence[str], of: Callable[[Run, str], tuple[Number, ...]]
) -> tuple[Number, ...]:
    """The first run's numbers, then those of the others under their names."""
    found = list(of(runs[0], labels[0]))
    for run, label, name in list(zip(runs, labels, prefixes(runs), strict=True))[1:]:
        found += [replace(number, name=f"{name}{number.name}") for number in of(run, label)]
    return tuple(found)


def heads_of(run: Run, label: str) -> pd.DataFrame:
    """Every head as a row, with intervals."""
    table = run.table(label, top=None)
    table.insert(0, "model", fact(run, "model"))
    return table.sort_values(["layer", "head"]).reset_index(drop=True)


def heads_of_all(runs: Sequence[Run], labels: Sequence[str]) -> pd.DataFrame:
    """Heads of all runs, with the run's number from 1."""
    tables = [heads_of(run, label) for run, label in zip(runs, labels, strict=True)]
    for place, table in enumerate(tables, 1):
        table.insert(0, "run", place)
        table.insert(2, "operator", fact(runs[place - 1], "operator"))
    return pd.concat(tables, ignore_index=True)
