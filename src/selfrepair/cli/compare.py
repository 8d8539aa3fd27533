"""`selfrepair compare`: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfrepair.errors import SelfRepairError
from selfrepair.terminal import Console


def compare(
    folders: Annotated[list[Path], typer.Argument(help="Results folders; each is compared with the first.")],
    filter: Annotated[str, typer.Option(help="Which tokens: a filter that all runs have.")] = "top 2%",
    number: Annotated[
        str, typer.Option(help="Which number, e.g. `repaired_fraction`, `self_repair`.")
    ] = "repaired_fraction",
    top: Annotated[int, typer.Option(help="How many of the heads that differ most to print.")] = 10,
    same_heads: Annotated[
        bool,
        typer.Option("--same-heads", help="Subtract heads of equal name even if the models seem to be unrelated."),
    ] = False,
) -> None:
    """Compare runs of models, operators or checkpoints; differences have 95% intervals over documents.

    Runs on the same text with the same seed are paired document by document, which makes differences sharper. Heads
    are subtracted one by one if the models are versions of one another (checkpoints, fine-tunes, quantisations).
    """
    from selfrepair.report.comparison_table import print_comparison
    from selfrepair.run.gathering.compare_runs import compare_all
    from selfrepair.statistics.estimators import ESTIMATORS

    if len(folders) < 2:
        raise SelfRepairError("One run cannot be compared.", "Give two folders or more.")
    if number not in ESTIMATORS:
        raise SelfRepairError(f"There is no number '{number}'.", f"There are: {', '.join(ESTIMATORS)}.")
    console = Console()
    for comparison in compare_all(folders, filter, number, same_heads):
        print_comparison(console, comparison, top)
        if comparison.unrelated:
            console.print(
                f"Heads are not compared one by one: {comparison.unrelated}. If heads of equal name correspond anyway, "
                "--same-heads subtracts them.",
                highlight=False,
                markup=False,
            )
