"""`selfrepair compare`: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from selfrepair.errors import SelfRepairError
from selfrepair.terminal import Console


def compare(
    folders: Annotated[list[Path], typer.Argument(help="Results folders; each is compared with the first.")],
    filter: Annotated[str, typer.Option(help="Which tokens: a filter that all runs have.")] = "top 2%",
    number: Annotated[
        str, typer.Option(help="Which number, e.g. `repaired_fraction`, `self_repair`.")
    ] = "repaired_fraction",
    top: Annotated[int, typer.Option(help="How many heads that differ most.")] = 10,
    same_heads: Annotated[
        bool,
        typer.Option("--same-heads", help="Subtract heads of equal name even where the models seem to be unrelated."),
    ] = False,
) -> None:
    """Lay runs side by side: models, operators, checkpoints; differences come with 95% intervals over documents.

    Runs on the same text with the same seed are paired document by document, which makes differences sharper. Heads
    are subtracted one by one where the models are versions of one another (checkpoints, fine-tunes, quantisations).
    """
    from selfrepair.run.comparison import compare_all
    from selfrepair.statistics.estimators import ESTIMATORS

    if len(folders) < 2:
        raise SelfRepairError("There is nothing to compare one run with.", "Give two folders or more.")
    if number not in ESTIMATORS:
        raise SelfRepairError(f"There is no number '{number}'.", f"There are: {', '.join(ESTIMATORS)}.")
    console = Console()
    for found in compare_all(folders, filter, number, same_heads):
        how = "paired by document" if found.paired else "not paired: the texts differ"
        table = Table(title=f"{number}, {filter}; all heads together; {how}", title_justify="left")
        for heading in ("", "value", "95% interval over documents"):
            table.add_column(heading, justify="left" if not heading else "right")
        rows = zip((*found.names, "difference"), (*found.each, found.change), strict=True)
        for name, one in rows:
            table.add_row(name, f"{float(one.value):+.4f}", f"{float(one.low):+.4f} to {float(one.high):+.4f}")
        console.print(table)
        if found.heads is not None:
            console.print(_heads(found.heads, top))
        else:
            console.print(
                f"Heads are not compared one by one: {found.unrelated}. Where heads of equal name are the same heads "
                "all the same, --same-heads subtracts them.",
                highlight=False,
                markup=False,
            )


def _heads(heads: object, top: int) -> Table:
    from selfrepair.statistics.estimates import Estimate

    assert isinstance(heads, Estimate)
    table = Table(title="Heads that differ most, by difference over its standard error", title_justify="left")
    for heading in ("head", "difference", "95% interval over documents"):
        table.add_column(heading, justify="left" if heading == "head" else "right")
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.nan_to_num(np.abs(heads.value) / heads.standard_error, nan=-1, posinf=-1)
    for place in np.argsort(-size, axis=None)[:top]:
        layer, head = np.unravel_index(place, size.shape)
        if size[layer, head] < 0:
            break
        low, high = heads.low[layer, head], heads.high[layer, head]
        table.add_row(f"L{layer}H{head}", f"{heads.value[layer, head]:+.3f}", f"{low:+.3f} to {high:+.3f}")
    return table
