"""`selfrepair recruit`: does the intact model use its backups?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from selfrepair.cli.options import Quiet, with_settings
from selfrepair.cli.questions import LOADING, PROMPTS, Json, Model, Out, as_json, question, required, settings
from selfrepair.terminal import Console

_OPTIONS = (*PROMPTS, *settings("ablation", "metric", "exact", "donors", "seed"), *LOADING)


@with_settings(_OPTIONS)
def recruit(
    components: Annotated[str, typer.Argument(help="Whole heads and MLPs, as one set: `L9H6`, `9.9+9.6`.")],
    model: Model = "default",
    *,
    by: Annotated[str, typer.Option(help="Which later components: `L10H0,L11.mlp`; all of them by default.")] = "",
    rows: Annotated[int, typer.Option(min=1, help="How many components are printed.")] = 12,
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
    **asked: Any,
) -> None:
    """Where these happen to write less on intact runs, do later components write more?

    The share that each makes up for by nature, from differences within groups of prompts, beside the share that it
    makes up for when these are ablated. A backup that only ablations wake has the second and not the first. Needs
    several prompts of each group: one template, several fillers.

    selfrepair recruit 23.3+29.1 --prompts ioi.jsonl
    """
    from selfrepair.ablation.names import parse_names
    from selfrepair.questions.interplay.recruitment import recruitment
    from selfrepair.questions.saving import save_recruitment
    from selfrepair.questions.tables.interplay_table import print_recruitment
    from selfrepair.questions.tables.records import recruitment_record

    named = required(components, "components")
    parse_names(named)
    asking = question(model, asked, quiet)
    later = parse_names(by, asking.model) if by.strip() else ()
    found = recruitment(asking, parse_names(named, asking.model), later)
    floor = asking.floor(found.effects.interventions[0])
    if out is not None:
        save_recruitment(found, asking, floor, out)
    if json:
        as_json(recruitment_record(asking, found, floor))
    else:
        print_recruitment(Console(), asking, found, floor, rows)
