"""`selfrepair card`: masked and unmasked importance."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from selfrepair.cli.options import Quiet, with_settings
from selfrepair.cli.questions import LOADING, PROMPTS, Json, Model, Out, as_json, question, required, settings
from selfrepair.terminal import Console

_OPTIONS = (*PROMPTS, *settings("ablation", "metric", "exact", "donors", "seed"), *LOADING)


@with_settings(_OPTIONS)
def card(
    components: Annotated[str, typer.Argument(help="Components, by commas: `L9H6,L9H9,L5.mlp`.")],
    model: Model = "default",
    *,
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
    **asked: Any,
) -> None:
    """Importance of single components, masked by self-repair and unmasked.

    Its direct effect, its total effect, and what that would be with the final norm, later MLPs, later attention,
    everything later, or just its own repairers held still.
    """
    from selfrepair.ablation.names import parse_names
    from selfrepair.questions.importance import importance_card
    from selfrepair.questions.saving import save_card
    from selfrepair.questions.tables.importance_table import print_card
    from selfrepair.questions.tables.records import card_record

    named = required(components, "components")
    parse_names(named)
    asking = question(model, asked, quiet)
    importance = importance_card(asking, parse_names(named, asking.model))
    floor = asking.floor(importance.effects.interventions[0])
    if out is not None:
        save_card(importance, asking, floor, out)
    if json:
        as_json(card_record(asking, importance, floor))
    else:
        print_card(Console(), asking, importance, floor)
