"""Importance cards, as the terminal shows them."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from selfrepair.questions.importance import ImportanceCard
from selfrepair.questions.question import Question
from selfrepair.questions.tables.table_parts import Column, foot, share_cell, table, with_ends
from selfrepair.report.number_formats import DASH, effect, known
from selfrepair.terminal import Console

_ROWS = {
    "direct_effect": "direct effect",
    "lost": "lost direct effect",
    "total_effect": "total effect",
    "self_repair": "self-repair",
    "norm_frozen": "total effect, final norm frozen",
    "mlps_frozen": "total effect, later MLPs frozen",
    "attention_frozen": "total effect, later attention frozen",
    "mixers_frozen": "total effect, later mixers frozen",
    "all_frozen": "total effect, all later components frozen",
    "repairers_frozen": "total effect, its repairers frozen",
    "given_repairers": "effect where its repairers are gone",
    "placebo_effect": "total effect of a placebo",
    "placebo_repair": "self-repair under a placebo",
    "specific_repair": "self-repair less that",
}


def print_card(console: Console, question: Question, found: ImportanceCard, floor: float | None) -> None:
    """Prints one column per component."""
    console.print(Text("Importance, masked and unmasked", style="bold"))
    records = found.table.to_dict("records")
    shown = [name for name in _ROWS if name != "mixers_frozen" or question.components.mixers]
    rows = [[_ROWS[name], *(_cell(record, name) for record in records)] for name in shown]
    rows.append(["masked by self-repair", *(_share(record) for record in records)])
    rows.append(
        ["rank by total effect → by what was lost", *(f"{r['rank_masked']} → {r['rank_unmasked']}" for r in records)]
    )
    if any(known(record["detectable"]) for record in records):
        rows.append(["smallest total effect to detect", *(f"{record['detectable']:.2g}" for record in records)])
    rows.append(["largest repairers", *(str(record["repairers"] or DASH) for record in records)])
    rows.append(["label", *(str(record["label"]) for record in records)])
    columns = [Column("", left=True), *(Column(str(record["component"])) for record in records)]
    console.print(table(columns, rows, console.width))
    console.print(foot(question, found.effects.operator, found.effects.residual, floor), style="dim")
    console.print(_in_words(question), style="dim")


def _in_words(question: Question) -> str:
    placebo = question.placebo
    return (
        f"placebo: a random change of the component's write, as large at each position as the ablation's, mean of "
        f"{placebo.draws}; what others do then is a response to being hit, not to what is lost. smallest total effect "
        "to detect: what a test at 5% finds in 80% of samples of this size, 2.8 standard errors. frozen: held at the "
        "clean output."
    )


def _cell(record: dict[str, object], name: str) -> str:
    value, low, high = record[name], record[f"{name}_low"], record[f"{name}_high"]
    return with_ends(*effect(value, low, high)) if known(value) else DASH


def _share(record: dict[str, Any]) -> str:
    return share_cell(record["masking"], record["masking_low"], record["masking_high"])
