"""Tables of the benchmarks, for a terminal; every number with what it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from selfrepair.bench.evidence import EFFECT, GROWTH, LINE, MARGINAL, RATIO, SCORES, Score
from selfrepair.bench.ioi.benchmark import IoiQuestion
from selfrepair.bench.ioi.published import Published
from selfrepair.bench.planted.benchmark import NOISE, PROMPTS, VARIANTS, PlantedScores
from selfrepair.bench.planted.missing_list import COMPONENTS, CONTROLS, LEAST_SHARE, NULL_SEEDS, MissingScores
from selfrepair.bench.planted.missing_list import PROMPTS as MISSING_PROMPTS
from selfrepair.terminal import Console

_COMPARED = (LINE, EFFECT, GROWTH, RATIO, MARGINAL)  # --json has all scores
CIRCULARITY = (
    "What this does not show: labels come from freeze tests of the same ablated run whose lines are ranked, which "
    "favours lines over scores that ask another question (CoAx: what becomes load-bearing). A component that covers "
    "through others only has a freeze test and no line. Backups that were found by their direct effects after a "
    "knock-out, as IOI's documented ones were, make a high AUC of lines nearly circular. `selfrepair bench planted` "
    "has neither flaw: there the truth was written by hand."
)


def print_planted(console: Console, found: PlantedScores, seeds: int) -> None:
    """Ranks of all scores by variant, right labels, and means by role."""
    summary = found.summary()
    for variant, group in summary.groupby("variant", sort=False):
        table = _table(f"{variant}: which components cover? Means over {seeds} circuits [95%]")
        for heading in ("score", "passes", "backups: AUC", "AP", "all repairers: AUC", "AP"):
            table.add_column(heading, justify="left" if heading == "score" else "right")
        rows = {row["score"]: row for row in group.to_dict("records")}
        for score in SCORES:
            row = rows[score.name]
            columns = ("auc_backups", "ap_backups", "auc_repairers", "ap_repairers")
            cells = [_with_interval(row, name) if name.startswith("auc") else f"{row[name]:.3f}" for name in columns]
            table.add_row(score.name, score.passes, *cells)
        console.print(table)
    _print_labels(console, found)
    _print_roles(console, found)
    _print_meanings(console, SCORES)
    console.print(
        f"Readout: logit of ANSWER less that of WRONG at the last position; {PROMPTS} prompts a circuit, {NOISE:.0%} "
        f"of them noise; ablation zero at all positions, all primaries together; N = {found.candidates} candidates, "
        "the heads and MLPs that can respond. Intervals: percentiles of 2,000 resamplings of circuits. The truth was "
        "set by hand.",
        style="dim",
    )


def print_missing(console: Console, found: MissingScores) -> None:
    """Precision and recall of missing lists, and how often something is discovered where nothing repairs."""
    table = _table("Missing lists of audits with members deleted")
    for heading in ("models", "deleted", "named", "precision", "recall"):
        table.add_column(heading, justify="left" if heading == "models" else "right")
    for row in found.summary().to_dict("records"):
        cells = ["–" if math.isnan(row[name]) else f"{row[name]:.3f}" for name in ("precision", "recall")]
        table.add_row(str(row["variant"]), str(row["left_out"]), str(row["found"]), *cells)
    if len(found.audits):
        console.print(table)
    nothing = _table("Nothing repairs: how often is something discovered?")
    nothing.add_column("components are")
    nothing.add_column("rate", justify="right")
    for row in found.null.to_dict("records"):
        nothing.add_row(str(row["way"]), f"{row['rate']:.3f}")
    console.print(nothing)
    console.print(
        f"{len(found.audits)} audits on {MISSING_PROMPTS} prompts each, zero ablation, {CONTROLS} controls, least "
        f"share {LEAST_SHARE:g}; deleted and named are sums over circuits. Rates over {NULL_SEEDS} draws of lines of "
        f"{COMPONENTS} components around zero, alike within groups; 5% is allowed.",
        style="dim",
    )


def _print_labels(console: Console, found: PlantedScores) -> None:
    table = _table("Motifs: share of right labels")
    for heading in (
        "models",
        "components with a motif",
        "all others",
        "lines off the truth table by",
        "ledger's residual",
    ):
        table.add_column(heading, justify="left" if heading == "models" else "right")
    for row in found.labelled().to_dict("records"):
        cells = [_with_interval(row, name) for name in ("labels_right", "unmoved_right")]
        table.add_row(str(row["variant"]), *cells, f"{row['truth_error']:.0e}", f"{row['residual']:.0e}")
    console.print(table)


def _print_roles(console: Console, found: PlantedScores) -> None:
    """Where norms are fixed and where they are live; other architectures have the same circuits."""
    shown, alike = ("line", "freeze test", "effect growth", "CoAx growth"), [variant.name for variant in VARIANTS[:2]]
    for variant, group in found.roles[found.roles["variant"].isin(alike)].groupby("variant", sort=False):
        table = _table(f"{variant}: means by planted role, in logits (CoAx growth: squared)")
        table.add_column("role")
        for heading in ("components", *shown):
            table.add_column(heading, justify="right")
        for role, rows in group.groupby("role", sort=False):
            values = [f"{_unsigned_zero(rows[name].mean()):+.4f}" for name in shown]
            table.add_row(str(role), f"{rows['number'].mean():.0f}", *values)
        console.print(table)


def print_ioi(console: Console, table: pd.DataFrame, asked: IoiQuestion, doubtful: Sequence[str]) -> None:
    """One line per setting: agreement of line and freeze test, AUC of the scores, and what the line is ahead by."""
    title = f"Who covers for the primaries? AUC for the {asked.positives} heads with the largest freeze tests [95%]"
    shown = _table(title)
    for heading in ("setting", "LD clean > ablated", "Pearson line, freeze", *(score.name for score in _COMPARED)):
        shown.add_column(heading, justify="left" if heading == "setting" else "right")
    shown.add_column("line - growth", justify="right")
    templates = _numbered(table["template"])
    sets = _numbered(table["primaries"])
    for row in table.to_dict("records"):
        shown.add_row(
            f"{templates[row['template']]} {row['ablation']} {chr(96 + sets[row['primaries']])}",
            f"{row['clean']:.2f} > {row['ablated']:.2f}",
            _with_interval(row, "pearson", 3),
            *(f"{row[f'auc {score.name}']:.3f}" for score in _COMPARED),
            _with_interval(row, "beyond_growth"),
        )
    console.print(shown)
    for template, place in templates.items():
        console.print(f"Template {place}: {template}", style="dim")
    for primaries, place in sets.items():
        console.print(f"Primaries {chr(96 + place)}: {primaries}", style="dim")
    _print_meanings(console, _COMPARED)
    for template in doubtful:
        problem = f"the model answers fewer than 90% of these rightly: {template}"
        console.print(Text("Doubtful:", "bold yellow"), problem)


def _numbered(values: pd.Series) -> dict[str, int]:
    """Different values in their order, from 1."""
    return {value: place for place, value in enumerate(dict.fromkeys(values), 1)}


def print_ioi_foot(console: Console, table: pd.DataFrame, asked: IoiQuestion, candidates: int) -> None:
    """What the numbers of `print_ioi` are."""
    console.print(
        f"Readout: logit of the right name less that of the wrong one, at the last position; {asked.prompts} prompts a "
        f"template; replaced at all positions; primaries: the heads with the largest clean direct effects; N = "
        f"{candidates} heads less the primaries. Smallest freeze test among the {asked.positives} that count as "
        f"repairers: {table['smallest_freeze'].min():.3f} to {table['smallest_freeze'].max():.3f} logits. Energies: "
        f"whole vocabulary. Intervals: percentiles of {asked.replicates:,} resamplings of prompts of one template, "
        "with labels and scores taken again in each; they hold for that template alone.",
        style="dim",
    )
    console.print(CIRCULARITY, style="dim")


def print_published(console: Console, published: Published) -> None:
    """The protocol of the CoAx paper: what was published, and what our implementation finds."""
    table = _table("The published benchmark: GPT-2 small, IOI, documented backups, zero ablation")
    for heading in (
        "score",
        "published AUC",
        f"here, {len(published.seeds)} seeds of {published.prompts} prompts",
        "difference",
    ):
        table.add_column(heading, justify="left" if heading == "score" else "right")
    for name, (stated, values) in published.rows().items():
        mean, spread = float(values.mean()), float(values.std())
        stated_text, difference = ("", "") if stated is None else (f"{stated:.3f}", f"{mean - stated:+.3f}")
        table.add_row(name, stated_text, f"{mean:.3f} ± {spread:.3f}", difference)
    console.print(table)
    console.print("± standard deviation over seeds, as published.", style="dim")


def _print_meanings(console: Console, scores: Sequence[Score]) -> None:
    for score in scores:
        console.print(f"{score.name} ({score.passes}): {score.meaning}", style="dim")
    console.print("In brackets: passes beside the clean one.", style="dim")


def _with_interval(row: Mapping[Any, Any], name: str, digits: int = 2) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{row[name]:.3f}" if pd.isna(low) else f"{row[name]:.3f} [{low:.{digits}f}, {high:.{digits}f}]"


def _unsigned_zero(value: float) -> float:
    """Without the sign of what rounds to zero."""
    return 0.0 if abs(value) < 5e-5 else value


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left")
