"""`selfrepair show`: the tables of a results folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfrepair.terminal import Console

if TYPE_CHECKING:
    from selfrepair.results.runs import Run


def show(
    folder: Annotated[Path, typer.Argument(help="A results folder.")],
    filter: Annotated[str, typer.Option(help="Which tokens, e.g. `all`, `top 2%`, `bottom 2%`.")] = "",
    sort: Annotated[
        str, typer.Option(help="Column to sort by: a heading of the table, or a name of --json.")
    ] = "direct_effect",
    ascending: Annotated[bool, typer.Option("--ascending", help="Smallest first.")] = False,
    top: Annotated[int, typer.Option(min=1, help="How many heads.")] = 20,
    layers: Annotated[str, typer.Option(help="Only these layers, e.g. `20-29`, `L26` or `3,5,7`.")] = "",
    open_: Annotated[
        bool, typer.Option("--open", help="Open report.html in the browser; it is written first if missing.")
    ] = False,
    card: Annotated[bool, typer.Option("--card", help="The whole model and its layers instead of its heads.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs, on standard output.")] = False,
) -> None:
    """Show the tables of a results folder, sorted and filtered.

    Ends with exit code 3 if one of the run's own checks failed.
    """
    from selfrepair.cli.exit_code import CHECKS_FAIL, exit_code_of
    from selfrepair.report.model_card import card_table
    from selfrepair.report.run_tables import head_table
    from selfrepair.results.run_folder import load_run

    run = load_run(folder)
    if open_:
        from selfrepair.cli.report import PAGE, show_page
        from selfrepair.report.page import write_page

        show_page(folder / PAGE if (folder / PAGE).is_file() else write_page([folder], folder / PAGE))
        return
    chosen = (filter or None, sort, not ascending, top, layers or None)
    code = exit_code_of(run)
    if as_json:
        content = {"plan": run.plan, "outcome": run.outcome, "card": card_table(run, chosen[0])}
        content["heads"] = head_table(run, *chosen)
        typer.echo(json.dumps(content, indent=2, default=str))
    else:
        _print(Console(), run, card, chosen)
    if code == CHECKS_FAIL:
        raise typer.Exit(code)


def _print(console: Console, run: Run, card: bool, chosen: tuple[str | None, str, bool, int, str | None]) -> None:
    from selfrepair.report.model_card import print_model_card
    from selfrepair.report.run_tables import print_heads, print_summary

    if card:
        print_model_card(console, run, chosen[0])
        console.print()
    else:
        print_heads(console, run, *chosen)
    print_summary(console, run)
