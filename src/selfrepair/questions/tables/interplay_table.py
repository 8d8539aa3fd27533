"""What sets do together, and what is recruited by nature, as the terminal shows them."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.text import Text

from selfrepair.questions.interplay.interplay import Interplay
from selfrepair.questions.interplay.recruitment import Recruitment
from selfrepair.questions.question import Question
from selfrepair.questions.tables.table_parts import Column, foot, logits, probability, share_cell, table, with_ends
from selfrepair.report.number_formats import DASH, effect
from selfrepair.terminal import Console

_PAIRS = (
    *(Column("first", left=True), Column("second", left=True), Column("first alone", spare=3)),
    *(Column("second alone", spare=4), Column("together", spare=2), Column("interaction")),
    *(Column("norm frozen"), Column("second, first gone", spare=5), Column("first, second gone", spare=6)),
)
_PAIR_CELLS = (
    *("first_alone", "second_alone", "together", "interaction", "norm_frozen", "given_first", "given_second"),
)


def print_interplay(console: Console, question: Question, found: Interplay, floor: float | None) -> None:
    """Prints pairs, Shapley values and knock-out curves, and what every number is."""
    console.print(Text("What these do together", style="bold"), f"· clean {_clean(question, found)}")
    rows = [
        [str(row["first"]), str(row["second"]), *(_cell(row, name) for name in _PAIR_CELLS)]
        for row in found.pairs.to_dict("records")
    ]
    console.print(table(_PAIRS, rows, console.width))
    if found.shapley is not None:
        console.print(
            Text("Shapley values", style="bold"), "· of the total effect; they add up to that of all together"
        )
        columns = (Column("set", left=True), Column("Shapley value"), Column("alone"))
        cells = [
            [str(row["component"]), _cell(row, "value"), _cell(row, "alone")]
            for row in found.shapley.to_dict("records")
        ]
        console.print(table(columns, cells, console.width))
    console.print(Text("Knock-out curves", style="bold"), "· total effect as one after the other is ablated")
    console.print(table(_CURVES, _curve_rows(found), console.width))
    console.print(foot(question, found.effects.operator, found.effects.residual, floor), style="dim")
    console.print(_in_words(found), style="dim")


def _clean(question: Question, found: Interplay) -> str:
    return logits(question.sampling.mean(found.effects.clean))


_CURVES = (
    *(Column("order", left=True), Column("step", spare=2), Column("ablated besides", left=True)),
    *(Column("total effect"), Column("unrepaired", spare=1)),
)


def _curve_rows(found: Interplay) -> list[list[str]]:
    clean = float(found.curves["readout"].iloc[0])
    rows = []
    for row in found.curves.to_dict("records"):
        if row["step"]:
            name = str(row["order"]) if row["step"] == 1 else ""
            cells = [name, str(row["step"]), str(row["ablated"]) or DASH, _cell(row, "total_effect")]
            rows.append([*cells, f"{row['unrepaired'] - clean:+.2f}"])
    return rows


def _in_words(found: Interplay) -> str:
    random = f" random: mean of {found.draws} orders." if "random" in set(found.curves["order"]) else ""
    return (
        "interaction: effect of both less the effects of each; below zero they do more damage together than apart, as "
        "redundant ones do. norm frozen: the same with the final norm's scale held at its clean value in every run; "
        "the rest of the interaction is the norm's. It has no direction: lines (`selfrepair who`) tell who covers for "
        "whom. orders: own effect, what hurts most alone first; direct effect, largest clean ones first; line, what "
        "writes most of the answer then, its line included; conditional, what hurts most besides those gone. "
        f"unrepaired: the effect if nothing had reacted.{random} Orders are chosen and curves measured "
        "on the same prompts."
    )


_RECRUITED = (
    *(Column("component", left=True), Column("by nature"), Column("q", spare=2)),
    *(Column("corrected", spare=1), Column("when ablated")),
)


def print_recruitment(console: Console, question: Question, found: Recruitment, floor: float | None, most: int) -> None:
    """Prints the components that cover most when the sites are ablated, and what the intact model shows of them."""
    name = found.effects.interventions[0].name
    console.print(
        Text(f"Recruited by nature where {name} writes less", style="bold"),
        f"· its direct effect varies by {found.spread:.3g} within groups",
    )
    rows = [
        [
            str(row["component"]),
            _share(row, "natural"),
            probability(row["q"]),
            _share(row, "corrected"),
            _share(row, "ablated"),
        ]
        for row in _shown(found.table, most).to_dict("records")
    ]
    console.print(table(_RECRUITED, rows, console.width))
    for note in found.notes:
        console.print(note, style="yellow")
    console.print(foot(question, found.effects.operator, found.effects.residual, floor), style="dim")
    console.print(
        f"by nature: share of what {name} happens to write less on a clean run that the component writes more, "
        f"within groups ({found.prompts} prompts in {found.groups} groups), with {found.sampling.in_words}; q: false "
        "discovery rate of shares above zero. corrected: without its dilution by noise, from prompts with the same "
        f"group and answers ({found.items or 'no'} such items). when ablated: its line over what {name} no longer "
        "writes. Nothing is frozen. Prompts that are harder for all components lower the share by nature.",
        style="dim",
    )


def _shown(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """The largest shares when ablated, and those that are surely recruited by nature."""
    sure = (rows["q"] <= 0.05) & (rows.index >= most)
    return pd.concat([rows.head(most), rows[sure].head(most)])


def _share(row: dict[str, Any], name: str) -> str:
    return share_cell(row[name], row[f"{name}_low"], row[f"{name}_high"])


def _cell(row: dict[str, Any], name: str) -> str:
    return with_ends(*effect(row[name], row[f"{name}_low"], row[f"{name}_high"]))
