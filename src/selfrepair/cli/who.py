"""`selfrepair who`: who covers for ablated components."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from selfrepair.cli.options import Quiet, with_settings
from selfrepair.cli.questions import LOADING, PROMPTS, Json, Model, Out, as_json, question, required, settings
from selfrepair.terminal import Console

_OPTIONS = (*PROMPTS, *settings("ablation", "donors", "seed", "top", "controls"), *LOADING)


@with_settings(_OPTIONS)
def who(
    components: Annotated[str, typer.Argument(help="What is ablated together: `L9H6`, `9.9+9.6`, `L5.mlp`, `9.6@S2`.")],
    model: Model = "default",
    *,
    given: Annotated[str, typer.Option(help="What is ablated besides, before and after.")] = "",
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
    **asked: Any,
) -> None:
    """Who covers for these components when they are ablated together, on your own prompts.

    For every later head and MLP: how much more of the answer it writes than before, by which motif (a backup that wakes
    up, a suppressor that lets go or re-aims), and a freeze test beside matched controls.

    selfrepair who L24H4 --prompt "When Mary and John went to the store, John gave a drink to" --answer " Mary"
    --against " John"
    """
    from selfrepair.ablation.names import parse_names
    from selfrepair.questions.covering.who import who as answer
    from selfrepair.questions.saving import save_covering
    from selfrepair.questions.tables.covering import print_who
    from selfrepair.questions.tables.records import covering_record

    named = required(components, "components")
    parse_names(named)  # fails before the model is loaded
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
