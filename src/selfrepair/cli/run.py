"""`selfrepair run`: the main job."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from selfrepair.cli.exit_code import INTERRUPTED
from selfrepair.cli.options import Quiet
from selfrepair.cli.report import write_beside
from selfrepair.terminal import Console

if TYPE_CHECKING:
    from selfrepair.results.runs import Run


class Packing(StrEnum):
    """How documents are split into windows."""

    documents = "documents"
    packed = "packed"


class Bos(StrEnum):
    """Whether windows start with a beginning-of-sequence token."""

    auto = "auto"
    always = "always"
    never = "never"


class Ablation(StrEnum):
    """Built-in operators."""

    resample = "resample"
    mean = "mean"
    position_mean = "position-mean"
    zero = "zero"


class Products(StrEnum):
    """How the delta engine multiplies differences with weights."""

    full = "full"
    bfloat16 = "bfloat16"
    int8 = "int8"


class EngineName(StrEnum):
    """How ablated runs are computed."""

    auto = "auto"
    delta = "delta"
    replay = "replay"
    reference = "reference"


class Executor(StrEnum):
    """Where workers run."""

    processes = "processes"
    ray = "ray"
    slurm = "slurm"


class Until(StrEnum):
    """What has to be known well enough for a run to stop early."""

    card = "card"
    heads = "heads"


class Lines(StrEnum):
    """For which downstream components the ledger is split up."""

    heads = "heads"
    layers = "layers"
    none = "none"


_TEXT, _ABLATE, _COMPUTE, _OUTPUT = "Text", "Ablation and statistics", "Computing", "Output"


def run(
    model: Annotated[
        str,
        typer.Argument(help="Hub id, folder with safetensors, GGUF file, or `default` (SmolLM2-135M-Instruct)."),
    ] = "default",
    text: Annotated[
        str,
        typer.Option(
            help="`builtin` (Python's own prose and code), a .txt, .jsonl(.gz, .zst), .json(.gz, .zst) or .parquet "
            "file, or a Hugging Face dataset id.",
            rich_help_panel=_TEXT,
        ),
    ] = "builtin",
    tokens: Annotated[
        int,
        typer.Option(
            min=1,
            help="Tokens to measure on, in whole windows; windows of shorter documents are padded.",
            rich_help_panel=_TEXT,
        ),
    ] = 640,
    length: Annotated[int, typer.Option(min=2, help="Tokens per window.", rich_help_panel=_TEXT)] = 64,
    packing: Annotated[
        Packing,
        typer.Option(
            help="`documents`: windows stay within a document. `packed`: documents joined, as in the paper.",
            rich_help_panel=_TEXT,
        ),
    ] = Packing.documents,
    bos: Annotated[
        Bos,
        typer.Option(
            help="BOS before every window; `auto`: what the tokenizer puts in front of a text (none, one or several).",
            rich_help_panel=_TEXT,
        ),
    ] = Bos.auto,
    field: Annotated[str, typer.Option(help="Column or key that holds the text.", rich_help_panel=_TEXT)] = "text",
    ablation: Annotated[
        Ablation, typer.Option(help="What replaces a head's output.", rich_help_panel=_ABLATE)
    ] = Ablation.resample,
    donors: Annotated[
        int,
        typer.Option(
            min=1, help="Donors per window, for `resample`; effects are averaged over them.", rich_help_panel=_ABLATE
        ),
    ] = 1,
    heads: Annotated[
        str, typer.Option(help="Heads to ablate, e.g. `L9H6,L10`; all by default.", rich_help_panel=_ABLATE)
    ] = "",
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="Tokens that numbers average over: `all`, `top:0.02`, `bottom:0.02` (per head, by clean direct "
            "effect). Can be repeated.",
            rich_help_panel=_ABLATE,
        ),
    ] = None,
    components: Annotated[
        Lines,
        typer.Option(help="Downstream components that get separate lines.", rich_help_panel=_ABLATE),
    ] = Lines.heads,
    first: Annotated[
        int,
        typer.Option(
            min=0,
            help="First position included in statistics; position 0 has no context, so it is left out by default.",
            rich_help_panel=_ABLATE,
        ),
    ] = 1,
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed for windows, donors and the token sample.", rich_help_panel=_ABLATE)
    ] = 0,
    engine: Annotated[
        EngineName,
        typer.Option(
            help="`delta`: differences, compiled, at low precision if that is accurate. `replay`: blocks from the "
            "ablated layer up. `reference`: full forwards, slow. `auto`: the fastest that a trial finds accurate.",
            rich_help_panel=_COMPUTE,
        ),
    ] = EngineName.auto,
    precision: Annotated[
        Products | None,
        typer.Option(
            help="Precision of the delta engine's matrix products; by default the fastest that a trial finds accurate "
            "to within 1% per token.",
            rich_help_panel=_COMPUTE,
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64.", rich_help_panel=_COMPUTE)] = "float32",
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda`, ...", rich_help_panel=_COMPUTE)] = "auto",
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Windows per batch; by default as many as fit in memory.", rich_help_panel=_COMPUTE),
    ] = None,
    memory: Annotated[
        float | None, typer.Option(help="Memory that a batch may take, in gigabytes.", rich_help_panel=_COMPUTE)
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of a hub model.", rich_help_panel=_COMPUTE)
    ] = None,
    offload: Annotated[
        bool,
        typer.Option(
            "--offload",
            help="Keep weights on disk (in SELFREPAIR_CACHE) except the block in use, for models larger than memory.",
            rich_help_panel=_COMPUTE,
        ),
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Workers that share the work.", rich_help_panel=_COMPUTE)] = 1,
    executor: Annotated[
        Executor, typer.Option(help="Where several workers run.", rich_help_panel=_COMPUTE)
    ] = Executor.processes,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads per worker, part of the plan; by default the cores divided by the workers.",
            rich_help_panel=_COMPUTE,
        ),
    ] = None,
    replicates: Annotated[
        int,
        typer.Option(
            min=2, help="Bootstrap resamplings of the documents, for errors and intervals.", rich_help_panel=_ABLATE
        ),
    ] = 400,
    until_se: Annotated[
        float | None,
        typer.Option(
            help="Stop once the 95% interval is no wider than that of a number with this standard error, e.g. `0.01`. "
            "The interval allows for repeated looks, so the standard error at the stop is 0.5 to 0.75 of this. By "
            "default all text is measured.",
            rich_help_panel=_COMPUTE,
        ),
    ] = None,
    until: Annotated[
        Until,
        typer.Option(
            help="Which number --until-se refers to: `card`, the repaired fraction of all heads together; `heads`, the "
            "mean self-repair (logit) of every head.",
            rich_help_panel=_COMPUTE,
        ),
    ] = Until.card,
    out: Annotated[
        Path | None,
        typer.Option(help="Results folder; by default a new one below selfrepair-runs/.", rich_help_panel=_OUTPUT),
    ] = None,
    sample: Annotated[
        int, typer.Option(min=0, help="Uniformly sampled tokens kept per head.", rich_help_panel=_OUTPUT)
    ] = 64,
    top: Annotated[int, typer.Option(min=1, help="Heads in the printed table.", rich_help_panel=_OUTPUT)] = 15,
    plots: Annotated[bool, typer.Option(help="Draw the two pictures.", rich_help_panel=_OUTPUT)] = True,
    page: Annotated[
        bool, typer.Option(help="Write report.html, the run as a page for the browser.", rich_help_panel=_OUTPUT)
    ] = True,
    quiet: Quiet = False,
) -> None:
    """Ablate every attention head in turn and account for what happened, token by token.

    For each head: its direct effect on the logit of the next token, the total effect of ablating it, and what
    compensated (later heads, MLPs, the final norm). Without arguments it runs a demo on a small model, downloaded
    once from PyPI, and text from Python's standard library, in a few minutes on two cores.
    """
    from selfrepair.ablation.names import named_heads
    from selfrepair.cli.heads import require_heads
    from selfrepair.cli.silence_libraries import quieten
    from selfrepair.results.run_folder import prepare_folder

    named = named_heads(heads) if heads.strip() else None
    quieten()
    place = prepare_folder(out or Path("selfrepair-runs") / datetime.now().strftime("%Y-%m-%d-%H%M%S"))
    from torch import get_num_threads, set_num_threads

    from selfrepair.ablation.operators import operator
    from selfrepair.model.load import load
    from selfrepair.run.measure import ChecksFail, NumbersAreInexact, measure
    from selfrepair.run.planning.prepare import stopping
    from selfrepair.statistics.filters import DEFAULT_FILTERS, Filter
    from selfrepair.text import read_documents, windows
    from selfrepair.text.bounded import LEAST

    if threads is not None or workers > 1:
        set_num_threads(threads or max(1, get_num_threads() // workers))
    console = Console(stderr=True, quiet=quiet)
    with _leaving_no_empty_folder(place), warnings.catch_warnings():
        for category in (ChecksFail, NumbersAreInexact):  # `report` prints these more visibly
            warnings.simplefilter("ignore", category)
        chosen = list(dict.fromkeys(map(Filter.parse, filters))) if filters else DEFAULT_FILTERS
        operator(ablation.value, donors)
        stopping(until_se, until.value)
        next(iter(read_documents(text, field=field, most=LEAST)))  # raises for text that cannot be read
        require_heads(named, model, revision)
        console.print("Loading the model and proving its identities.")
        loaded = load(model, dtype=dtype, device=device, revision=revision, offload=offload)
        console.print(f"{loaded!r}: its identities hold.")
        corpus = windows(
            loaded.tokenizer,
            text,
            tokens=tokens,
            length=length,
            packing=packing.value,
            bos=bos.value,
            field=field,
            seed=seed,
        )
        counted = f"{corpus.scored(first).sum():,} predictions count."
        console.print(f"Text: {corpus!r}; {counted}{_as_python_has_it(corpus.provenance)}")
        measured = measure(
            loaded,
            corpus,
            ablation=ablation.value,
            donors=donors,
            filters=chosen,
            engine=engine.value,
            precision=None if precision is None else precision.value,
            components=components.value,
            heads=heads if named else None,
            batch=batch,
            memory=memory,
            seed=seed,
            first=first,
            sample=sample,
            replicates=replicates,
            until_se=until_se,
            until=until.value,
            out=place,
            workers=workers,
            executor=executor.value,
            progress=not quiet,
        )
    report(measured, place, top, plots, page)


def _as_python_has_it(provenance: Mapping[str, object]) -> str:
    """That the built-in text depends on the Python version; nothing for other texts."""
    python = provenance.get("python")
    return f" The text is what Python {python} brings with it: other versions have other texts." if python else ""


@contextmanager
def _leaving_no_empty_folder(place: Path) -> Iterator[None]:
    """Before the sweep: a failure or interruption leaves no empty folder behind."""
    try:
        yield
    except KeyboardInterrupt:
        again = f" Continue with: selfrepair resume {quote(str(place))}" if any(place.iterdir()) else ""
        Console(stderr=True).print(f"Interrupted before the sweep: nothing was measured.{again}")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        with suppress(OSError):  # it holds something
            place.rmdir()


def report(measured: Run, place: Path, top: int, plots: bool, page: bool = True) -> None:
    """Prints tables, draws pictures, writes the page, and ends with the exit code the run deserves."""
    from selfrepair.cli.exit_code import exit_code_of
    from selfrepair.report.tables import print_heads, print_summary
    from selfrepair.run.gathering.best_effort import never_costs_the_run

    console = Console()
    with never_costs_the_run("tables", "`selfrepair show` tries again."):
        print_heads(console, measured, top=top)
        print_summary(console, measured)
    where = f"\nResults: {place}   (again: selfrepair show {quote(str(place))})"
    console.print(where, soft_wrap=True)
    code = exit_code_of(measured)
    if plots:
        with never_costs_the_run("pictures"):
            _draw(measured, place)
    if page:
        with never_costs_the_run("report.html", "`selfrepair report` tries again."):
            write_beside(measured, place)
    raise typer.Exit(code)


def _draw(measured: Run, place: Path) -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        Console(stderr=True).print("No pictures without matplotlib: pip install 'selfrepair[plots]'")
        return
    measured.plot_overview(path=place / "overview.png")
    measured.plot_direct_effects(path=place / "direct_effects.png")
