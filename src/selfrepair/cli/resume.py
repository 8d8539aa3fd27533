"""`selfrepair resume`: continue a run that was cut short."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfrepair.cli.options import Quiet, options, with_settings
from selfrepair.run.planning.settings import Work


@with_settings(options(Work, "workers", "executor"), panels=False)
def resume(
    folder: Annotated[Path, typer.Argument(help="The folder of the run.")],
    *,
    top: Annotated[int, typer.Option(help="Heads in the printed table.")] = 15,
    plots: Annotated[bool, typer.Option(help="Draw the two pictures.")] = True,
    page: Annotated[bool, typer.Option(help="Write report.html, the run as a page for the browser.")] = True,
    quiet: Quiet = False,
    workers: int,
    executor: str,
) -> None:
    """Continue a run where it stopped, after a kill, a crash or a full disk.

    Finished units are verified whenever they are read; a damaged one is reported, put aside and repeated. If the
    plan, model, text, a software version or the kind of processor has changed, the run is refused, with the difference.
    """
    from selfrepair.cli.silence_libraries import quieten

    quieten()
    from selfrepair.cli.run import print_run
    from selfrepair.run.measure import resume as go_on

    print_run(go_on(folder, workers=workers, executor=executor, progress=not quiet), folder, top, plots, page)
