"""The audit of a circuit, as the terminal shows it."""

from __future__ import annotations

import pandas as pd
from rich.text import Text

from selfrepair.questions.circuit.audit import CircuitAudit
from selfrepair.questions.circuit.circuit_verdict import RULE
from selfrepair.questions.question import Question
from selfrepair.questions.tables.covering import balance, components_table, detectable_line, sums
from selfrepair.questions.tables.table_parts import Column, foot, logits, part, share_cell, table, with_ends
from selfrepair.report.number_formats import effect
from selfrepair.terminal import Console


def print_audit(console: Console, question: Question, found: CircuitAudit, floor: float | None) -> None:
    """Prints the audit: balance, who covered, what is missing and superfluous, completion, other ablations, verdict."""
    covering, runs = found.covering, found.runs
    console.print(Text(f"Circuit: {len(runs.members)} components ({', '.join(map(str, runs.members))})", style="bold"))
    console.print(balance(covering))
    console.print(_faithfulness(found))
    _titled(console, "Who covered", components_table(covering, 8, console.width))
    console.print(sums(covering))
    _print_missing(console, found)
    _titled(console, "Members", _members(found.members, console.width))
    if len(found.completion) > 1:
        _titled(console, "The circuit with what it misses added", _completion(found.completion, console.width))
    _titled(console, "Under other ablations", _operators(found, console.width))
    console.print(found.operators.in_words)
    console.print()
    console.print(Text(f"VERDICT  {found.verdict.word}", style="bold"), f"– {found.verdict.reason}.")
    console.print(f"The rule: {RULE}", style="dim")
    console.print(foot(question, found.effects.operator, found.effects.residual, floor), style="dim")
    console.print(detectable_line(question, covering), style="dim")


def _titled(console: Console, title: str, content: object) -> None:
    console.print()
    console.print(Text(title, style="bold"))
    console.print(content)


def _faithfulness(found: CircuitAudit) -> str:
    faith = found.faithfulness
    said = (
        f"necessity {part(faith.necessity)} · faithfulness of the circuit alone {part(faith.faithfulness)} "
        "(0%: every head ablated, 100%: none; MLPs live)"
    )
    if float(faith.faithfulness.value) > 1 and len(faith.against):
        names = ", ".join(
            f"{row.component} ({row.clean_direct_effect:+.2f})" for row in faith.against.head(4).itertuples()
        )
        said += f"\nabove 100% because heads outside work against the answer: {names}"
    return said


def _print_missing(console: Console, found: CircuitAudit) -> None:
    if found.missing.empty:
        _titled(console, "Missing", "Nothing outside the circuit covers for it, by the rules of docs/audit.md.")
    else:
        rows = [
            [
                row["component"],
                with_ends(*effect(row["line"], row["line_low"], row["line_high"])),
                share_cell(row["share"], row["share_low"], row["share_high"]),
                f"{row['control_low']:+.2f} to {row['control_high']:+.2f}",
                row["label"],
                f"{100 * row['stable']:.0f}%",
            ]
            for row in found.missing.to_dict("records")
        ]
        columns = [
            Column("component", left=True),
            Column("line"),
            Column("share of repair"),
            Column("controls", spare=2),
        ]
        columns += [Column("how", left=True), Column("selected again", spare=1)]
        _titled(console, "Missing from the circuit", table(columns, rows, console.width))
    if found.together is not None and found.together.controls:
        low, high = min(found.together.controls), max(found.together.controls)
        console.print(
            f"frozen together they take {logits(found.together.recovered)} of the repair away "
            f"({part(found.together.share)}); {len(found.together.controls)} sets of like components "
            f"{low:+.2f} to {high:+.2f}"
        )
    console.print(f"{found.halves.in_words}; selected again: in resampled groups.", style="dim")


def _members(rows: pd.DataFrame, width: int) -> object:
    shown = []
    for row in rows.to_dict("records"):
        cells = [str(row["component"]), str(row["roles"])]
        for name in ("direct_effect", "alone", "given_rest", "given_role"):
            cells.append(with_ends(*effect(row[name], row[f"{name}_low"], row[f"{name}_high"])) if name in row else "–")
        shown.append([*cells, "superfluous?" if row["superfluous"] else ""])
    columns = [Column("component", left=True), Column("role", left=True, spare=2), Column("wrote")]
    columns += [Column("ablated alone"), Column("rest gone"), Column("role gone", spare=3), Column("", left=True)]
    return table(columns, shown, width)


def _completion(rows: pd.DataFrame, width: int) -> object:
    shown = [
        [
            f"+ {row['added']}" if row["added"] else "circuit",
            *(share_cell(row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in _STEPS),
        ]
        for row in rows.to_dict("records")
    ]
    headings = ("comes back", "necessity", "faithfulness")
    return table([Column("ablated", left=True), *map(Column, headings)], shown, width)


_STEPS = ("repaired_share", "necessity", "faithfulness")


def _operators(found: CircuitAudit, width: int) -> object:
    shown = []
    for row in found.operators.table.to_dict("records"):
        cells = [str(row["ablation"])]
        cells += [
            with_ends(*effect(row[name], row[f"{name}_low"], row[f"{name}_high"])) for name in ("lost", "total_effect")
        ]
        cells.append(share_cell(row["repaired_share"], row["repaired_share_low"], row["repaired_share_high"]))
        shown.append([*cells, f"{found.operators.kendall[str(row['ablation'])]:.2f}", str(row["covered_by"])])
    columns = [Column("ablation", left=True), Column("lost"), Column("total effect"), Column("comes back")]
    columns += [Column("Kendall τ", spare=2), Column("covered by", left=True, spare=1)]
    return table(columns, shown, width)
