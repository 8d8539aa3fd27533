"""Who covered, as the terminal shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table
from rich.text import Text

from selfrepair.questions.covering.motifs import MOTIFS
from selfrepair.questions.covering.who import Covering
from selfrepair.questions.measuring.metrics import metric_named
from selfrepair.questions.measuring.sampling import smallest_detectable
from selfrepair.questions.question import Question
from selfrepair.questions.tables.table_parts import (
    Column,
    foot,
    logits,
    part,
    probability,
    share_cell,
    signed_or_dash,
    table,
    with_ends,
)
from selfrepair.report.number_formats import DASH, effect
from selfrepair.terminal import Console

_SUMS = {
    "heads": "all_heads",
    "mixers": "all_mixers",
    "MLPs": "all_mlps",
    "post-norms": "post_norms",
    "norm": "norm",
    "curvature": "curvature",
}
_ALWAYS = ("heads", "MLPs", "norm")  # others where they are not zero
MOTIF_TITLES = dict(zip(MOTIFS, ("anti-erasure", "backup", "breakage"), strict=True))


def print_who(console: Console, question: Question, found: Covering, floor: float | None, top: int = 8) -> None:
    """Prints who covers: the sums, one row per component, and what every number is."""
    console.print(Text(f"Who covers for {found.base.name}", style="bold"))
    console.print(balance(found))
    console.print()
    console.print(components_table(found, top, console.width))
    console.print(sums(found))
    console.print(foot(question, found.effects.operator, found.effects.residual, floor), style="dim")
    console.print(f"{_tests_in_words(found)} {detectable_line(question, found)}", style="dim")
    if found.note:
        console.print(found.note, style="yellow")


def balance(found: Covering) -> str:
    """Clean value, what was lost, what happened, what came back."""
    clean = found.sampling.mean(found.effects.clean)
    return (
        f"clean {logits(clean)} · the ablated sites wrote {logits(found.total('lost'))} · total effect "
        f"{logits(found.total('total_effect'))} · covered {part(found.repaired_share)}"
    )


_COLUMNS = (
    Column("component", left=True),
    Column("line"),
    Column("q", spare=7),
    Column("before → after", spare=4),
    Column("how", left=True),
    Column("attends", left=True, spare=5),
    Column("freeze test", spare=1),
    Column("share of repair", spare=3),
    Column("controls", spare=6),
    Column("alone", spare=8),
    Column("besides", spare=9),
)


def components_table(found: Covering, top: int, width: int) -> Table:
    """The components that repair most, and those that break most."""
    return table(_COLUMNS, [_row(row) for row in shown_rows(found.table, top).to_dict("records")], width)


def shown_rows(rows: pd.DataFrame, top: int) -> pd.DataFrame:
    """The largest lines, and of the negative ones the two largest if they are surely not zero."""
    worst = rows[(rows["line"] < 0) & ~(rows["line_high"] > 0)].nsmallest(2, "line")
    best = rows[rows["line"] > 0].head(top)
    return pd.concat([best, worst.iloc[::-1]])


def _row(row: Mapping[str, Any]) -> list[str]:
    tested = not math.isnan(row["freeze"])
    freeze = with_ends(*effect(row["freeze"], row["freeze_low"], row["freeze_high"])) if tested else DASH
    part_of = share_cell(row["share"], row["share_low"], row["share_high"]) if tested else DASH
    compared = not math.isnan(row["control_low"])
    return [
        str(row["component"]),
        with_ends(*effect(row["line"], row["line_low"], row["line_high"])),
        probability(row["q"]),
        f"{row['clean_direct_effect']:+.2f} → {row['ablated_direct_effect']:+.2f}",
        str(row["label"]),
        str(row["attends"]),
        freeze,
        part_of,
        f"{row['control_low']:+.2f} to {row['control_high']:+.2f}" if compared else DASH,
        signed_or_dash(row["alone"]),
        signed_or_dash(row["besides"]),
    ]


def sums(found: Covering) -> str:
    """All lines together, and by motif."""
    lines = []
    for title, name in _SUMS.items():
        value = found.sign * float(found.total(name).value)
        if title in _ALWAYS or value:
            lines.append(f"{title} {value:+.2f}")
    repair = found.sign * float(found.total("self_repair").value)
    motif = " · ".join(f"{MOTIF_TITLES[name]} {float(one.value):+.2f}" for name, one in found.motif_sums().items())
    together = f"{' · '.join(lines)} · together {repair:+.2f} = total effect + what was lost"
    return f"{together}\nmotifs of all components: {motif}"


def detectable_line(question: Question, found: Covering) -> str:
    """The smallest line and freeze test that these prompts could show, typical of those tested."""
    columns = [found.components.index[site] for site in found.tested]
    lines = np.asarray(found.sampling.mean(found.lines[:, columns].T).standard_error)
    tests = [float(found.sampling.mean(found.recovered([site])).standard_error) for site in found.tested]
    if not columns or not np.isfinite(lines).all():
        return "Smallest detectable line: not known without intervals."
    line, test = (smallest_detectable(float(np.median(errors))) for errors in (lines, tests))
    return (
        f"Smallest detectable (a test at 5% finds it in 80% of such samples): a line of {line:.2g}, a freeze test of "
        f"{test:.2g} {metric_named(question.settings.metric).units}, medians over the {len(columns)} tested."
    )


def _tests_in_words(found: Covering) -> str:
    return (
        "line: change in what the component itself writes (positive repairs). freeze test: repair that is gone if it "
        "is held at its clean output, and its share of the whole repair by components; controls: the same of "
        f"{len(found.controls)} components of like layer, response and direct effect (95% of those of its kind). "
        "alone: the metric's change if it alone is ablated; besides: if it is ablated besides. attends: where its "
        "attention from the answer's position changed most, clean → ablated."
    )
