"""Our engines against TransformerLens, nnsight and the plain hook loop: same weights, tokens and heads, in one go.

    python benchmarks/peers.py --shape gpt2-small --repeats 3 --json peers.json
    python benchmarks/peers.py --shape pythia-160m --heads 24 --engines replay,transformer_lens
    python benchmarks/peers.py --scaling --engines replay --heads 12 --json scaling.json

Needs the extra: pip install 'selfrepair[bench]'. How to read the numbers: docs/performance.md.
"""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here is downloaded
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import typer
from rich.console import Console

from race.contestants import ENGINES
from race.shapes import SHAPES, Weights
from race.task import Order

WIDTH = 150  # of the table, where nobody says how wide the screen is
app = typer.Typer(add_completion=False)
ShapeName = StrEnum("ShapeName", {name: name for name in SHAPES})  # type: ignore[misc]
DEFAULT_SHAPE = ShapeName("gpt2-small")
CHECKED = 12
"""Heads compared with the float64 reference where a model has more: a float64 forward is slow."""


@app.command()
def peers(
    shape: ShapeName = DEFAULT_SHAPE,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; in each, every engine has one turn.")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the rows.")] = None,
    windows: Annotated[int, typer.Option(min=1, help="Windows in the batch.")] = 4,
    length: Annotated[int, typer.Option(min=2, help="Tokens in a window.")] = 128,
    heads: Annotated[str, typer.Option(help="'all', or how many, spread over the layers.")] = "all",
    engines: Annotated[str, typer.Option(help="Which, with commas.")] = ",".join(ENGINES),
    weights: Annotated[
        Weights, typer.Option(help="As initialised (plain), or such that heads matter.")
    ] = Weights.plain,
    check: Annotated[int, typer.Option(help="Heads compared with the float64 reference; 0 for none.")] = CHECKED,
    threads: Annotated[int | None, typer.Option(help="Threads of torch; its own choice by default.")] = None,
    device: str = "cpu",
    seed: int = 0,
    together: Annotated[bool, typer.Option(help="Everybody in this process: starts sooner, isolates nobody.")] = False,
    scaling: Annotated[bool, typer.Option("--scaling", help="Cost and memory against tokens instead.")] = False,
    tokens: Annotated[str, typer.Option(help="Numbers of tokens for --scaling.")] = "512,1024,2048,4096",
) -> None:
    """Run the race and print who needed how long, against whom, and how exact it was."""
    order = Order(str(shape), windows, length, _number(heads), weights, threads, device, seed)
    chosen = _chosen(engines)
    found = _scaling(order, chosen[0], tokens) if scaling else _race(order, chosen, repeats, check, together)
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=1) + "\n")


def _race(order: Order, engines: list[str], repeats: int, check: int, together: bool) -> list[dict[str, Any]]:
    from race import rows
    from race.accuracy import reference
    from race.rounds import race

    console = Console(highlight=False)
    console.width = max(console.width, WIDTH)
    outcomes, peaks = race(order, engines, repeats, together, console.print)
    truth = reference(order, check) if check else None
    found = rows.rows(order, outcomes, peaks, truth)
    first = found[0]
    console.print(f"{first['machine']}, {first['threads']} threads. {rows.peaks_in_words(peaks)}")
    console.print(f"{order.shape}: {first['heads']} heads, {first['tokens']} tokens")
    console.print(rows.table(found))
    if warning := rows.disturbance(found):
        console.print(warning)
    if truth:
        console.print(f"Errors against float64 on {len(truth.places)} heads, spread over layers.")
    return found


def _scaling(order: Order, engine: str, tokens: str) -> list[dict[str, Any]]:
    from race.scaling import scaling, table

    found = scaling(engine, order, [int(amount) for amount in tokens.split(",")])
    Console().print(table(found))
    return found


def _chosen(engines: str) -> list[str]:
    chosen = engines.split(",")
    unknown = [name for name in chosen if name not in ENGINES]
    if unknown:
        raise typer.BadParameter(f"no engine '{unknown[0]}'; there are: {', '.join(ENGINES)}")
    return chosen


def _number(heads: str) -> int | None:
    if heads == "all":
        return None
    if not heads.isdecimal() or int(heads) < 1:
        raise typer.BadParameter(f"--heads takes 'all' or a number, not '{heads}'")
    return int(heads)


if __name__ == "__main__":
    app()
