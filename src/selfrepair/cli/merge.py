"""`selfrepair merge`: bring together parts of one run, and runs on several texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def merge(
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs: copies of one, or runs on different texts.")],
    out: Annotated[Path, typer.Option(help="Folder for the merged run; must not exist.")],
    top: Annotated[int, typer.Option(help="Heads in the printed table.")] = 15,
    plots: Annotated[bool, typer.Option(help="Draw the two pictures.")] = True,
) -> None:
    """Merge parts of one run, or runs of one model with the same settings on different texts.

    Folders that started as copies of one planned run (on machines without a shared disk) become that run; units that
    are missing are counted, and `selfrepair resume` on the new folder does them. Runs on different texts become one
    over all their documents, in which a filter such as the top 2% chooses within each text. Folders that do not
    belong together are refused, with the difference.
    """
    from selfrepair.cli.silence_libraries import quieten

    quieten()
    from selfrepair.cli.run import print_run
    from selfrepair.run.gathering.merge_folders import combine

    print_run(combine(folders, out), out, top, plots)
