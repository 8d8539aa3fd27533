"""`selfrepair`: all verbs, and how errors are reported."""

from __future__ import annotations

import signal
import sys
import warnings
from importlib.metadata import version
from io import TextIOWrapper
from types import FrameType
from typing import Annotated

import typer
from rich.text import Text

from selfrepair.cli import bench, check, compare, merge, paper, report, resume, run, show, status
from selfrepair.errors import SelfRepairError
from selfrepair.terminal import Console

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Which components compensate for an ablated head? Exact per-token ledgers of self-repair in language models.",
    epilog="Start with `selfrepair run`: a demo on a small model that takes a few minutes.",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"selfrepair {version('selfrepair')}")
        raise typer.Exit()


@app.callback()
def common(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that come before the verb."""


app.command("run")(run.run)
app.command("check")(check.check)
app.command("show")(show.show)
app.command("resume")(resume.resume)
app.command("status")(status.status)
app.command("merge")(merge.merge)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("paper")(paper.paper)
app.add_typer(bench.bench, name="bench")


def main() -> None:
    """Entry point: a problem that the user can fix takes two lines and exit code 1; an interruption gives 130."""
    signal.signal(signal.SIGTERM, _interrupt)  # a job scheduler's way of saying Ctrl-C
    warnings.filterwarnings("ignore", category=FutureWarning)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a terminal's alphabet lacks stops no command
    try:
        app()
    except SelfRepairError as error:
        console = Console(stderr=True, soft_wrap=True)
        console.print(Text(error.problem, "bold red"))
        if error.fix:
            console.print(error.fix)
        sys.exit(1)
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # `selfrepair show ... | head` has read enough
            sys.exit(0)
        raise


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
