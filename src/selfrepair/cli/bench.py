"""`selfrepair bench`: scores that claim to find what covers, where the truth is known or tested."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from selfrepair.cli.options import Quiet
from selfrepair.terminal import Console

if TYPE_CHECKING:
    import pandas as pd

    from selfrepair.bench.ioi.published import Published

bench = typer.Typer(
    no_args_is_help=True,
    help="Benchmarks: is what covers for ablated heads found? On planted models, and beside Conditional Co-Ablation.",
)
AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs, on standard output.")]


@bench.command("planted")
def planted(
    seeds: Annotated[int, typer.Option(min=1, help="Circuits for each kind of model.")] = 12,
    audits: Annotated[
        int, typer.Option(min=0, help="Circuits for each kind of norm that are audited with members deleted.")
    ] = 3,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Rank the components of planted models, in which who covers was set by hand, by every score.

    Backups that wake when two primaries are gone, suppressors that let go or turn round, amplifiers, movers, components
    that respond with something else, MLPs; in GPT-2, Llama with grouped queries and OLMo 2, with a live final norm.
    Some circuits are audited with members deleted: the missing list should name these and nothing else.
    """
    from selfrepair.bench.bench_tables import print_missing, print_planted
    from selfrepair.bench.planted.benchmark import VARIANTS, planted_benchmark
    from selfrepair.bench.planted.missing_list import AUDITED, missing_benchmark
    from selfrepair.progress import progress

    with progress("Planted models", seeds * len(VARIANTS), not quiet, "models") as meter:
        result = planted_benchmark(seeds, advance=meter)
    with progress("Audits", audits * len(AUDITED), not quiet, "models") as meter:
        missing = missing_benchmark(audits, advance=meter)
    if as_json:
        tables = {
            "ranks": result.summary(),
            "labels": result.labelled(),
            "roles": result.roles,
            "by_seed": result.ranks,
            "missing": missing.summary(),
            "audits": missing.audits,
            "null": missing.null,
        }
        typer.echo(_json({"seeds": seeds, "candidates": result.candidates}, tables))
    else:
        print_planted(Console(), result, seeds)
        print_missing(Console(), missing)


@bench.command("coax")
def coax(
    model: Annotated[str, typer.Argument(help="Hub id, folder with safetensors, GGUF file, or `default`.")] = "default",
    templates: Annotated[int, typer.Option(min=1, max=5, help="Templates of prompts.")] = 3,
    prompts: Annotated[int, typer.Option(min=2, help="Prompts of each template.")] = 12,
    positives: Annotated[int, typer.Option(min=1, help="Heads that count as repairers, by their freeze tests.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for prompts and intervals.")] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="One template of 8 prompts, zero ablation, the three largest primaries.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Rank heads by the ledger's line and by Conditional Co-Ablation, judged by freeze tests, on IOI prompts.

    Three sets of primaries under zero ablation and under corrupt twins. GPT-2 small is measured by the published
    protocol too. All primary sets share what they can; --quick takes an eighth of the time.
    """
    from dataclasses import replace

    from selfrepair.cli.silence_libraries import quieten

    quieten()
    from selfrepair.bench.bench_tables import print_ioi, print_ioi_foot, print_published
    from selfrepair.bench.ioi.benchmark import QUICK, IoiQuestion, doubtful, ioi_benchmark, table_of
    from selfrepair.bench.ioi.published import is_gpt2_small, published_benchmark
    from selfrepair.model.load import load
    from selfrepair.progress import progress

    loaded = load(model)
    asked = replace(
        QUICK if quick else IoiQuestion(templates=templates, prompts=prompts), positives=positives, seed=seed
    )
    with progress("Co-ablation", asked.work(loaded), not quiet, "ablated prompts") as meter:
        settings = ioi_benchmark(loaded, asked, advance=meter)
    published = published_benchmark(loaded) if is_gpt2_small(loaded) and not quick else None
    table = table_of(settings, asked)
    if as_json:
        typer.echo(_json({"model": model, "asked": vars(asked), **_published(published)}, {"settings": table}))
        return
    console = Console()
    print_ioi(console, table, asked, doubtful(settings))
    print_ioi_foot(console, table, asked, settings[0].heads)
    if published is not None:
        print_published(console, published)


def _published(result: Published | None) -> dict[str, object]:
    if result is None:
        return {}
    rows = {name: {"stated": stated, "here": values.tolist()} for name, (stated, values) in result.rows().items()}
    return {"published": {"seeds": result.seeds, "prompts": result.prompts, "auc": rows}}


def _json(facts: dict[str, object], tables: dict[str, pd.DataFrame]) -> str:
    """Facts and tables as JSON; missing numbers are null."""
    from selfrepair.bench.bench_tables import CIRCULARITY

    rows = {name: json.loads(table.to_json(orient="records", double_precision=15)) for name, table in tables.items()}
    return json.dumps(facts | rows | {"caution": CIRCULARITY}, indent=2, default=str)
