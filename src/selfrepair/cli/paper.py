"""`selfrepair paper`: everything the paper measured, on any supported model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from selfrepair import choices
from selfrepair.cli.exit_code import INTERRUPTED
from selfrepair.cli.options import Quiet, options, with_settings
from selfrepair.run.planning.setting_fields import given_settings
from selfrepair.run.planning.settings import Computing, Loading, Statistics, Text
from selfrepair.terminal import Console


class RecipeName(StrEnum):
    """How text is cut, donors drawn and tokens chosen."""

    default = "default"
    original = "original"


Recipe = Annotated[
    RecipeName,
    typer.Option(
        help="`original`: the choices of the paper's authors, including known flaws: packing, donors at a fixed "
        "offset, position 0, clipping, percentiles."
    ),
]
Reference = Annotated[Path | None, typer.Option(help="Folder with published tables (heads.csv) to compare with.")]
Finished = Annotated[
    Path | None, typer.Option(help="Finished results folder of this model, used instead of a new sweep.")
]
Others = Annotated[
    list[Path] | None,
    typer.Option("--with", help="Results folders of other models or operators, for the overview's panels."),
]
_SETTINGS = (
    *options(Text, "text", "tokens", "length", "bos", "field", tokens=2048, length=128),
    *options(Statistics, "seed"),
    *options(Computing, "batch", "memory"),
    *options(Loading),
)


@with_settings(_SETTINGS)
def paper(
    model: Annotated[str, typer.Argument(help="Hub id, folder with safetensors, GGUF file, or `default`.")] = "default",
    *,
    only: Annotated[
        list[str] | None,
        typer.Option(help=f"Experiments, by name: {', '.join(choices.EXPERIMENTS)}. Can be repeated; all by default."),
    ] = None,
    recipe: Recipe = RecipeName.default,
    reference: Reference = None,
    run: Finished = None,
    others: Others = None,
    out: Annotated[Path | None, typer.Option(help="Folder; by default a new one below selfrepair-papers/.")] = None,
    scan_tokens: Annotated[int, typer.Option(min=1, help="Tokens for the self-gain scan over all heads.")] = 768,
    quiet: Quiet = False,
    **asked: Any,
) -> None:
    """Make every figure and experiment of the paper: pictures, data, and one page with a table of its claims.

    Figures as PNG, SVG and interactive HTML with the data behind each, `index.html` in the paper's order, and for every
    claim what the paper stated, what this run measured with its interval, and whether it holds here. The paper itself
    measured on up to a million tokens.
    """
    from selfrepair.cli.silence_libraries import quieten
    from selfrepair.results.run_folder import load_run, prepare_folder

    quieten()
    from selfrepair.paper import make
    from selfrepair.paper.experiments import overview
    from selfrepair.paper.page import paper_folder

    make.check_names(only or (), reference)
    _require_readable(reference, asked if run is None else None)
    beside = overview.read_beside(others or ())
    target = prepare_folder(out or Path("selfrepair-papers") / datetime.now().strftime("%Y-%m-%d-%H%M%S"))
    console = Console(stderr=True, quiet=quiet)
    loaded = _loaded(model, asked, console)
    if run is not None:
        study = make.study_of(loaded, load_run(run), recipe.value)
    else:
        study = _studied(loaded, asked, recipe.value, only or (), target, not quiet)
    study.others, study.reference, study.scan_tokens = beside, reference, scan_tokens
    folder = paper_folder.Folder(target)
    made = make.make(study, only or (), lambda name: console.print(f"{paper_folder.heading(name)} ({name})"), folder)
    _report(made, folder.show(made))


def _require_readable(reference: Path | None, asked: Mapping[str, Any] | None) -> None:
    """Fails before the sweep if packages are missing, or an input cannot be read.

    Args:
        reference: folder with published tables.
        asked: settings of the text to measure.
    """
    from selfrepair.paper.experiments.published.reference_folder import read_published_heads, read_self_repression
    from selfrepair.text import read_documents
    from selfrepair.text.bounded import LEAST

    _require_packages()
    if reference is not None:
        read_published_heads(reference)
        read_self_repression(reference)
    if asked is not None:
        next(iter(read_documents(asked["text"], field=asked["field"], most=LEAST)))


def _loaded(model: str, asked: Mapping[str, Any], console: Console) -> Any:
    """The model, its identities proved."""
    from selfrepair.model.load import load

    console.print("Loading the model and proving its identities.")
    loaded = load(model, **given_settings(Loading, asked))
    console.print(f"{loaded!r}: its identities hold.")
    return loaded


def _studied(
    model: Any,
    asked: Mapping[str, Any],
    recipe: str,
    only: Sequence[str],
    target: Path,
    progress: bool,
) -> Any:
    """A study of a text, with a new sweep over all heads where an experiment reads it."""
    from selfrepair.paper import make
    from selfrepair.paper.inputs.recipe import recipe_named
    from selfrepair.paper.inputs.recipe_windows import windows_for
    from selfrepair.paper.study import Study

    seed = asked["seed"]
    windows = windows_for(model.tokenizer, recipe, seed=seed, **given_settings(Text, asked))
    chosen = recipe_named(recipe, windows)
    if not make.needs_sweep(only):
        return Study(model, windows, None, chosen, seed=seed)
    sizes = given_settings(Computing, asked)
    swept = make.sweep(model, windows, chosen, out=target / "run", seed=seed, progress=progress, **sizes)
    if swept.outcome["status"] == "interrupted":
        Console(stderr=True).print(
            f"Interrupted: nothing of the sweep is lost. Continue with selfrepair resume {target / 'run'}, then "
            f"selfrepair paper --run {target / 'run'}",
            soft_wrap=True,
        )
        raise typer.Exit(INTERRUPTED)
    return Study(model, windows, swept, chosen, seed=seed)


def _report(made: Any, page: Path) -> None:
    """Prints the verdicts and where the page is."""
    from rich.table import Table
    from rich.text import Text

    from selfrepair.cli.exit_code import exit_code_of
    from selfrepair.paper.claims import MISSING
    from selfrepair.paper.page.paper_folder import FAILURES, number_text, reason

    console = Console()
    colours = {"holds here": "green", "does not hold here": "red", "undecided here": "yellow"}
    table = Table(title="The paper's claims on this model", title_justify="left")
    for heading in ("", "stated", "measured, 95% interval over documents", "verdict"):
        table.add_column(heading)
    for verdict in made.verdicts:
        if verdict.verdict != MISSING:
            colour = colours.get(verdict.verdict, "white")
            table.add_row(
                verdict.claim.key, verdict.claim.stated, number_text(verdict.number), Text(verdict.verdict, colour)
            )
    console.print(table)
    for name, why in made.left_out.items():
        console.print(f"Left out, {name}: {why}")
    console.print(f"\nPage: {page}", soft_wrap=True)
    code = 0 if made.run is None else exit_code_of(made.run)
    loud = Console(stderr=True)
    for name, problem in made.failed.items():
        loud.print(f"Failed, {name}: {reason(problem)}", soft_wrap=True)
    if made.failed:
        loud.print(f"Details of each failure: {page.with_name(FAILURES)}", soft_wrap=True)
    raise typer.Exit(code or int(bool(made.failed)))


def _require_packages() -> None:
    """Fails before the sweep if packages are missing."""
    from importlib.util import find_spec

    from selfrepair.errors import SelfRepairError

    missing = [name for name in ("matplotlib", "plotly", "jinja2") if find_spec(name) is None]
    if missing:
        raise SelfRepairError(f"The figures need {', '.join(missing)}.", "pip install 'selfrepair[paper]'")
