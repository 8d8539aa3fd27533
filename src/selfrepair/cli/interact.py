"""`selfrepair interact`: what components do together beyond the sum."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from selfrepair.cli.options import Quiet, with_settings
from selfrepair.cli.questions import LOADING, PROMPTS, Json, Model, Out, as_json, question, required, settings
from selfrepair.errors import SelfRepairError
from selfrepair.questions.question_settings import KNOCK_OUT_ORDERS
from selfrepair.terminal import Console

_OPTIONS = (*PROMPTS, *settings("ablation", "metric", "exact", "donors", "seed"), *LOADING)
_PICTURES = (".png", ".svg", ".pdf")
_ORDERS = ", ".join(f"`{name}`" for name in KNOCK_OUT_ORDERS)


@with_settings(_OPTIONS)
def interact(
    components: Annotated[
        str, typer.Argument(help="Two or more, by commas; sets by + or with a name: `L9H6, 9.9+10.0, s2=7.3,7.9`.")
    ],
    model: Model = "default",
    *,
    order: Annotated[
        list[str] | None,
        typer.Option(help=f"Order of a knock-out curve, can be repeated: {_ORDERS}. Default: all that are cheap."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="How many sets a curve ablates at most.")] = 10,
    draws: Annotated[int, typer.Option(min=1, help="Random orders that are averaged.")] = 20,
    shapley: Annotated[
        bool | None,
        typer.Option(help="Shapley values of up to 10 sets: 2 to the power of their number runs. Default: up to 6."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="File for a picture of the curves: .png, .svg or .pdf.")] = None,
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
    **asked: Any,
) -> None:
    """Do these components do more together than apart?

    Interactions of every pair, with a live final norm and with its scale frozen; Shapley values; and knock-out curves,
    the effect as one after the other is ablated, in several orders. Redundant components interact below zero: each
    alone does little, both together do much. Who covers for whom is what `selfrepair who` tells.

    selfrepair interact "23.3, 29.1, 24.4" --prompts ioi.jsonl --plot curves.png
    """
    from selfrepair.ablation.names import parse_units
    from selfrepair.questions.interplay.interplay import interplay
    from selfrepair.questions.saving import save_interplay
    from selfrepair.questions.tables.interplay_table import print_interplay
    from selfrepair.questions.tables.records import interplay_record

    named = required(components, "components")
    parse_units(named)  # this and the next complain before the model is loaded
    _require_orders(order or ())
    if plot is not None:
        _require_picture(plot)
    asking = question(model, asked, quiet)
    found = interplay(asking, parse_units(named, asking.model), order, steps, draws, shapley)
    floor = asking.floor(found.effects.interventions[0])
    if out is not None:
        save_interplay(found, asking, floor, out)
    if json:
        as_json(interplay_record(asking, found, floor))
    else:
        print_interplay(Console(), asking, found, floor)
    if plot is not None:
        found.plot_curves(plot)


def _require_orders(orders: Sequence[str]) -> None:
    unknown = next((name for name in orders if name not in KNOCK_OUT_ORDERS), None)
    if unknown is not None:
        raise SelfRepairError(f"There is no order '{unknown}'.", f"There are: {', '.join(KNOCK_OUT_ORDERS)}.")


def _require_picture(path: Path) -> None:
    """Refuses a file that could not be drawn, before anything is measured."""
    if path.suffix.lower() not in _PICTURES or not path.absolute().parent.is_dir():
        raise SelfRepairError(
            f"No picture can be written to {path}.",
            f"Give --plot a file in a folder that exists: {', '.join(_PICTURES)}.",
        )
