"""Ablated runs, as the terminal shows them."""

from __future__ import annotations

import pandas as pd
from rich.text import Text

from selfrepair.questions.measuring.prompt_effects import PromptEffects
from selfrepair.questions.question import Question
from selfrepair.questions.tables.table_parts import Column, foot, logits, share_cell, table, with_ends
from selfrepair.report.number_formats import effect
from selfrepair.terminal import Console

_LINES = {"all_heads": ("heads", 2), "all_mixers": ("mixers", 2), "all_mlps": ("MLPs", 2), "norm": ("norm", 3)}


def print_ablated(
    console: Console, question: Question, effects: PromptEffects, rows: pd.DataFrame, floor: float | None
) -> None:
    """Prints one row per run."""
    console.print(Text("Ablated runs", style="bold"), f"clean {logits(question.sampling.mean(effects.clean))}")
    lines = [name for name in _LINES if name != "all_mixers" or question.components.mixers]
    columns = [Column("ablated", left=True), Column("lost"), Column("total effect"), Column("comes back")]
    for title, spare in (_LINES[name] for name in lines):
        columns.append(Column(title, spare=spare))
    columns.append(Column("largest lines", left=True, spare=1))
    shown = []
    for row in rows.to_dict("records"):
        cells = [str(row["name"])]
        cells += [
            with_ends(*effect(row[name], row[f"{name}_low"], row[f"{name}_high"])) for name in ("lost", "total_effect")
        ]
        cells.append(share_cell(row["repaired_share"], row["repaired_share_low"], row["repaired_share_high"]))
        cells += [f"{row[name]:+.2f}" for name in lines]
        shown.append([*cells, str(row["repairers"])])
    console.print(table(columns, shown, console.width))
    frozen = effects.interventions[0].frozen
    if frozen:
        console.print(f"Frozen at their clean output in every run: {', '.join(map(str, frozen))}.")
    console.print(foot(question, effects.operator, effects.residual, floor), style="dim")
