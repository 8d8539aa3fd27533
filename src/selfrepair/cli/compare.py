"""`selfrepair compare`: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from selfrepair.errors import SelfRepairError


def compare(
    folders: Annotated[list[Path], typer.Argument(help="Results folders; each is compared with the first.")],
    filter: Annotated[str, typer.Option(help="Which tokens: a filter that all runs have.")] = "top 2%",
    number: Annotated[
        str, typer.Option(help="Which number, e.g. `repaired_fraction`, `self_repair`.")
    ] = "repaired_fraction",
    top: Annotated[int, typer.Option(help="How many heads that differ most.")] = 10,
) -> None:
    """Lay runs side by side: models, operators, checkpoints; differences come with 95% intervals over documents.

    Runs on the same text with the same seed are paired document by document, which makes differences sharper.
    """
    from selfrepair.report.compared import print_comparison
    from selfrepair.run.comparison import compare_all
    from selfrepair.statistics.estimators import ESTIMATORS

    if len(folders) < 2:
        raise SelfRepairError("There is nothing to compare one run with.", "Give two folders or more.")
    if number not in ESTIMATORS:
        raise SelfRepairError(f"There is no number '{number}'.", f"There are: {', '.join(ESTIMATORS)}.")
    for found in compare_all(folders, filter, number):
        print_comparison(Console(), found, top)
