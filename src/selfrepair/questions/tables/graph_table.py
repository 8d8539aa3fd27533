"""Edges of senders, as the terminal shows them."""

from __future__ import annotations

from rich.text import Text

from selfrepair.questions.graph import PARTS, EdgeGraph
from selfrepair.questions.question import Question
from selfrepair.questions.tables.table_parts import Column, foot, logits, table, with_ends
from selfrepair.report.number_formats import effect
from selfrepair.terminal import Console

_COLUMNS = (Column("receiver", left=True), Column("total"), Column("direct"), Column("mediated", spare=1))


def print_graph(console: Console, question: Question, found: EdgeGraph, floor: float | None, most: int) -> None:
    """Prints the largest edges of each sender, and what every number is."""
    every = found.table()
    for row, sender in enumerate(found.senders):
        lost, total = (found.sampling.mean(getattr(found.effects, name)[row]) for name in ("lost", "total_effect"))
        edges = every[every["source"] == sender]
        console.print(Text(f"From {sender}", style="bold"), f"wrote {logits(lost)} · total effect {logits(total)}")
        if edges.empty:
            console.print("Nothing comes behind it.")
            continue
        cells = [
            [
                edge["target"],
                *(with_ends(*effect(edge[part], edge[f"{part}_low"], edge[f"{part}_high"])) for part in PARTS),
            ]
            for edge in edges.head(most).to_dict("records")
        ]
        console.print(table(_COLUMNS, cells, console.width))
        if len(edges) > most:
            console.print(f"and {len(edges) - most} smaller; a file (--out) has all", style="dim")
        console.print()
    console.print(foot(question, found.effects.operator, found.residual, floor), style="dim")
    console.print(
        "total: change of what the receiver writes when the sender is ablated by itself; direct: what it would be if "
        "nothing but the sender's write had changed, norms live; mediated: the rest. Of the receiver's whole input: "
        "queries, keys and values are not told apart.",
        style="dim",
    )
