"""`selfrepair merge`: bring together what several machines did of one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def merge(
    folders: Annotated[list[Path], typer.Argument(help="Folders that started as copies of one planned run.")],
    out: Annotated[Path, typer.Option(help="The folder to put them together in; must not exist.")],
    top: Annotated[int, typer.Option(help="Heads in the printed table.")] = 15,
    plots: Annotated[bool, typer.Option(help="Draw the two pictures.")] = True,
) -> None:
    """Bring together units of one run that machines without a shared disk did in copies of its folder.

    Folders of different plans are refused, with the difference; units that are missing are counted, and
    `selfrepair resume` on the new folder does them.
    """
    from selfrepair.cli.quiet import quieten

    quieten()
    from selfrepair.cli.run import report
    from selfrepair.run.combine import combine

    report(combine(folders, out), out, top, plots)
