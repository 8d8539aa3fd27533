"""Lines of a finished run, as the terminal shows them."""

from __future__ import annotations

import pandas as pd
from rich.text import Text

from selfrepair.questions.tables.table_parts import Column, table, with_ends
from selfrepair.report.captions import ablated, amount, chosen_tokens, fact, floor, operator_with_donors
from selfrepair.report.number_formats import effect
from selfrepair.results.filter_labels import resolve_filter
from selfrepair.results.runs import Run
from selfrepair.terminal import Console

_TOP, _BOTTOM = 12, 3


def print_run_lines(console: Console, run: Run, name: str, filter: str | None, lines: pd.DataFrame) -> None:
    """Prints the largest lines, and the most negative ones."""
    label = resolve_filter(run, filter)
    shown = pd.concat([lines.head(_TOP), lines.iloc[_TOP:].tail(_BOTTOM)])
    rows = [
        [str(row["component"]), with_ends(*effect(row["line"], row["line_low"], row["line_high"]))]
        for row in shown.to_dict("records")
    ]
    console.print(Text(f"Who covers for {name}", style="bold"))
    console.print(table([Column("component", left=True), Column("line")], rows, console.width))
    console.print(
        f"line: mean change in what the component writes, in logits of the next token, over "
        f"{chosen_tokens(label, ablated(run))}; {operator_with_donors(run)}; {amount(run, label)}; "
        f"95% intervals over documents, one component at a time; {fact(run, 'model')}, "
        f"text: {fact(run, 'text')}; {floor(run)}.",
        style="dim",
    )
    console.print("No freeze tests: these need prompts (--prompts), or a run of interventions.", style="dim")
