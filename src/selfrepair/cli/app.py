"""`selfrepair`: all verbs, and how errors are reported."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from io import TextIOWrapper
from types import FrameType
from typing import Annotated

import typer
from rich.text import Text

from selfrepair.cli import (
    ablate,
    audit,
    bench,
    card,
    check,
    claim,
    compare,
    graph,
    interact,
    merge,
    names,
    paper,
    prompts,
    recruit,
    report,
    resume,
    run,
    show,
    status,
    who,
)
from selfrepair.errors import SelfRepairError
from selfrepair.terminal import Console

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Which components compensate for an ablated head? Exact per-token ledgers of self-repair in language models.",
    epilog="Start with `selfrepair run`: a demo on a small model that takes a few minutes. On a prompt of your own: "
    "`selfrepair who L24H4 --ablation zero --prompt 'When Mary and John went to the store, John gave a drink to' "
    "--answer ' Mary' --against ' John'`.",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"selfrepair {version('selfrepair')}")
        raise typer.Exit()


@app.callback()
def before_verb(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that come before the verb."""


_CORPUS, _OWN, _MODEL = "Every head on a corpus", "Your own prompts and circuit", "Models, names and benchmarks"
_VERBS: dict[str, dict[str, Callable[..., None]]] = {
    _CORPUS: {
        "run": run.run,
        "show": show.show,
        "report": report.report,
        "resume": resume.resume,
        "status": status.status,
        "merge": merge.merge,
        "compare": compare.compare,
        "paper": paper.paper,
    },
    _OWN: {
        "prompts": prompts.prompts,
        "who": who.who,
        "ablate": ablate.ablate,
        "card": card.card,
        "interact": interact.interact,
        "recruit": recruit.recruit,
        "graph": graph.graph,
        "audit": audit.audit,
        "claim": claim.claim,
    },
    _MODEL: {"check": check.check, "names": names.names},
}
for _panel, _verbs in _VERBS.items():
    for _name, _verb in _verbs.items():
        app.command(_name, rich_help_panel=_panel)(_verb)
app.add_typer(bench.bench, name="bench", rich_help_panel=_MODEL)


def main() -> None:
    """Entry point: a problem that the user can fix takes two lines and exit code 1; an interruption gives 130."""
    signal.signal(signal.SIGTERM, _interrupt)  # job schedulers send it instead of Ctrl-C
    warnings.filterwarnings("ignore", category=FutureWarning)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # characters that a terminal cannot encode are escaped
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
