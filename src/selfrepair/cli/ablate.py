"""`selfrepair ablate`: any interventions, from the command line."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from selfrepair.cli.options import Quiet, with_settings
from selfrepair.cli.questions import LOADING, PROMPTS, Json, Model, Out, as_json, question, required, settings
from selfrepair.terminal import Console

_OPTIONS = (*PROMPTS, *settings("ablation", "metric", "exact", "donors", "seed"), *LOADING)


@with_settings(_OPTIONS)
def ablate(
    interventions: Annotated[
        str, typer.Argument(help="Ablated runs by commas; what is ablated together with +: `L9H6, 9.9+9.6, L5.mlp@S2`.")
    ],
    model: Model = "default",
    *,
    freeze: Annotated[str, typer.Option(help="Components held at their clean output in every run.")] = "",
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
    **asked: Any,
) -> None:
    """Ablate components on your own prompts, and see what each prompt's answer lost and who made up for it."""
    from selfrepair.ablation.names import parse_names, parse_units
    from selfrepair.questions.ablated import ablated_runs, summary
    from selfrepair.questions.saving import save_effects
    from selfrepair.questions.tables.ablated_table import print_ablated
    from selfrepair.questions.tables.records import ablated_record

    named = required(interventions, "components")
    parse_units(named)
    asking = question(model, asked, quiet)
    frozen = parse_names(freeze, asking.model) if freeze.strip() else []
    runs = ablated_runs(parse_units(named, asking.model), frozen)
    effects = asking.measure(runs)
    rows, floor = summary(asking, effects), asking.floor(runs[0])
    if out is not None:
        save_effects(effects, asking, floor, out, rows)
    if json:
        as_json(ablated_record(asking, effects, rows, floor))
    else:
        print_ablated(Console(), asking, effects, rows, floor)
