"""`selfrepair who`: who covers for ablated components."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from selfrepair.cli.options import Quiet, with_settings
from selfrepair.cli.questions import LOADING, PROMPTS, Json, Model, Out, as_json, question, required, settings
from selfrepair.errors import SelfRepairError
from selfrepair.terminal import Console

_OPTIONS = (*PROMPTS, *settings("ablation", "metric", "exact", "donors", "seed", "top", "controls"), *LOADING)


@with_settings(_OPTIONS)
def who(
    components: Annotated[str, typer.Argument(help="What is ablated together: `L9H6`, `9.9+9.6`, `L5.mlp`, `9.6@S2`.")],
    model: Model = "default",
    *,
    given: Annotated[str, typer.Option(help="What is ablated besides, before and after.")] = "",
    run: Annotated[
        Path | None,
        typer.Option(help="A finished run's folder, instead of prompts: its lines are read, at no cost."),
    ] = None,
    filter: Annotated[str, typer.Option(help="With --run: which tokens, e.g. `top 2%`.")] = "",
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
    **asked: Any,
) -> None:
    """Who covers for these components when they are ablated together, on your own prompts.

    For every later head and MLP: how much more of the answer it writes than before, by which motif (a backup that wakes
    up, a suppressor that lets go or re-aims), and a freeze test beside matched controls.

    selfrepair who L24H4 --ablation zero --prompt "When Mary and John went to the store, John gave a drink to"
    --answer " Mary" --against " John"
    """
    from selfrepair.ablation.names import parse_names
    from selfrepair.questions.covering.who import who as answer
    from selfrepair.questions.saving import save_covering
    from selfrepair.questions.tables.covering import print_who
    from selfrepair.questions.tables.records import covering_record

    named = required(components, "components")
    if run is not None:
        _show_run(run, named, filter, asked, json)
        return
    parse_names(named)  # complains before the model is loaded
    asking = question(model, asked, quiet)
    sites = parse_names(named, asking.model)
    covering = answer(asking, sites, parse_names(given, asking.model) if given.strip() else ())
    floor = asking.floor(covering.base)
    if out is not None:
        save_covering(covering, asking, floor, out)
    if json:
        as_json(covering_record(asking, covering, floor))
    else:
        print_who(Console(), asking, covering, floor)


def _show_run(folder: Path, name: str, filter: str, asked: Mapping[str, Any], json: bool) -> None:
    """Prints the lines that a finished run has."""
    from selfrepair.ablation.names import parse_names
    from selfrepair.cli.exit_code import CHECKS_FAIL, exit_code_of
    from selfrepair.questions.on_a_run import lines_in_run
    from selfrepair.questions.tables.records import rows
    from selfrepair.questions.tables.run_lines_table import print_run_lines
    from selfrepair.results.run_folder import load_run

    if asked["prompts"] or asked["prompt"]:
        raise SelfRepairError("A run and prompts were given.", "Give --run, or prompts.")
    loaded = load_run(folder)
    known = {str(known_name) for known_name in loaded.interventions["name"].values}
    title = name if name in known else "+".join(map(str, parse_names(name)))
    table = lines_in_run(loaded, title, filter or None)
    code = exit_code_of(loaded)
    if json:
        as_json({"ablated": title, "components": rows(table)})
    else:
        print_run_lines(Console(), loaded, title, filter or None, table)
    if code == CHECKS_FAIL:
        raise typer.Exit(code)
