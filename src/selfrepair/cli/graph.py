"""`selfrepair graph`: edges from ablated senders to every component behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from selfrepair.cli.options import Quiet, with_settings
from selfrepair.cli.questions import LOADING, PROMPTS, Json, Model, as_json, question, settings
from selfrepair.errors import SelfRepairError
from selfrepair.terminal import Console

_OPTIONS = (*PROMPTS, *settings("ablation", "donors", "seed"), *LOADING)


@with_settings(_OPTIONS)
def graph(
    model: Model = "default",
    *,
    senders: Annotated[str, typer.Option(help="Heads and MLPs, each ablated by itself: `L9H6,L9H9,L5.mlp`.")] = "",
    strongest: Annotated[
        int | None, typer.Option(min=1, help="Instead: so many heads, those with the largest direct effects.")
    ] = None,
    edges: Annotated[int, typer.Option(min=1, help="How many edges of each sender are printed.")] = 8,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File for all edges: .json, .parquet, .graphml, or .neuronpedia.json for its attribution graphs; "
            ".dot for a picture of the largest."
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    **asked: Any,
) -> None:
    """Who responds to each of these components, directly or by way of others?

    For every later head and MLP: how much more or less of the answer it writes when the sender is ablated, and how much
    of that comes straight from the sender's own missing write. One pass per sender measures all receivers, with live
    norms and nothing linearised.
    """
    from selfrepair.ablation.names import parse_names
    from selfrepair.questions.graph import edge_graph
    from selfrepair.questions.graph import strongest as strongest_heads
    from selfrepair.questions.graph_files import graph_record, save_graph, writer
    from selfrepair.questions.tables.graph_table import print_graph

    if bool(senders.strip()) == (strongest is not None):
        given = "both were" if strongest else "neither was"
        raise SelfRepairError(
            f"Senders are named, or chosen by their direct effects; {given} asked for.",
            "Give --senders L9H6,L9H9, or --strongest 5.",
        )
    if out is not None:
        writer(out)  # this and the next complain before the model is loaded
    if senders.strip():
        parse_names(senders)
    asking = question(model, asked, quiet)
    chosen = strongest_heads(asking, strongest) if strongest else parse_names(senders, asking.model)
    found = edge_graph(asking, chosen)
    floor = asking.floor(found.effects.interventions[0])
    if out is not None:
        save_graph(found, asking, floor, out)
    if json:
        as_json(graph_record(asking, found, floor))
    else:
        print_graph(Console(), asking, found, floor, edges)
