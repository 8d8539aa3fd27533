"""The folder of a paper: figures, tables, numbers, and one page that shows them."""

from __future__ import annotations

import json
import math
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from selfrepair.errors import SelfRepairError
from selfrepair.paper.claims import ARITHMETIC, FAILS, HOLDS, MISSING, OPEN, UNJUDGED, verdict_table
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.make import Paper
from selfrepair.paper.numbers.over_documents import Number
from selfrepair.paper.pictures.exhibit_captions import numbers_table
from selfrepair.paper.study import EXPERIMENTS
from selfrepair.pictures import with_matplotlib, with_plotly
from selfrepair.report.captions import discoveries, engine_error, fact
from selfrepair.report.number_formats import brief, small
from selfrepair.report.page.script import style
from selfrepair.results.atomic_files import put
from selfrepair.results.filter_labels import resolve_filter

FIGURES, FAILURES = "figures", "failures.txt"
TEMPLATE = Path(__file__).with_name("page.html.j2")
_CLASSES = {
    HOLDS: "holds",
    FAILS: "fails",
    OPEN: "open",
    ARITHMETIC: "missing",
    MISSING: "missing",
    UNJUDGED: "missing",
}
_MOST_CSV_ROWS = 50_000  # larger tables are written as parquet


@dataclass
class Folder:
    """The folder that a paper is written to while it is being made, so that nothing made is ever lost.

        Attributes:
    path: the folder.
            files: name of the data file of each exhibit written so far.
    """

    path: Path
    files: dict[str, str] = field(default_factory=dict)

    def keep(self, exhibit: Exhibit) -> None:
        """Writes an exhibit's pictures and data.

        Raises:
            SelfRepairError: matplotlib or plotly is missing, or the folder cannot be written to.
        """
        figures = self.path / FIGURES
        figures.mkdir(parents=True, exist_ok=True)
        if exhibit.picture is not None and not (figures / with_plotly.SCRIPT).exists():
            put(figures / with_plotly.SCRIPT, with_plotly.script().encode())
        self.files[exhibit.name] = _write_exhibit(exhibit, figures)

    def show(self, paper: Paper) -> Path:
        """Writes the page, the claims and the numbers of all exhibits there are.

        Raises:
            SelfRepairError: jinja2 is missing, or the folder cannot be written to.
        """
        put(self.path / "claims.csv", _csv(verdict_table(paper.verdicts)))
        put(self.path / "numbers.csv", _csv(_all_numbers(paper)))
        put(self.path / "paper.json", json.dumps(_facts(paper), indent=2, ensure_ascii=False).encode())
        if paper.failed:
            put(self.path / FAILURES, _failures(paper).encode())
        page = self.path / "index.html"
        put(page, render(paper, self.files).encode())
        return page


def write_paper(paper: Paper, folder: str | Path) -> Path:
    """Writes everything; existing files of the same name are replaced.

    Args:
        paper: the paper made.
        folder: the folder to write to.

    Returns:
        The page.

    Raises:
        SelfRepairError: matplotlib, plotly or jinja2 is missing, or the folder cannot be written to.
    """
    writer = Folder(Path(folder))
    writer.path.mkdir(parents=True, exist_ok=True)
    for exhibit in paper.exhibits:
        writer.keep(exhibit)
    return writer.show(paper)


def heading(name: str) -> str:
    """The experiment's heading on the page."""
    return EXPERIMENTS[name].heading


def render(paper: Paper, files: dict[str, str]) -> str:
    """The page as HTML; all text is escaped.

    Args:
        paper: the paper made.
        files: name of the data file of each exhibit.

    Raises:
        SelfRepairError: jinja2 is missing.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as problem:
        raise SelfRepairError("The page needs jinja2.", "pip install 'selfrepair[paper]'") from problem
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    made = {name: [exhibit for exhibit in paper.exhibits if exhibit.section == name] for name in EXPERIMENTS}
    sections = [
        {"name": name, "title": heading(name), "exhibits": exhibits} for name, exhibits in made.items() if exhibits
    ]
    html: str = template.render(
        style=style(),
        facts=_shown_facts(paper),
        claims=[(judged, _CLASSES[judged.verdict], number_text(judged.number)) for judged in paper.verdicts],
        counts={name: sum(judged.verdict == name for judged in paper.verdicts) for name in _CLASSES},
        sections=sections,
        files=files,
        figures=FIGURES,
        left_out=[(heading(name), reason) for name, reason in paper.left_out.items()],
        failed=[(heading(name), reason(problem)) for name, problem in paper.failed.items()],
        pending=[heading(name) for name in paper.pending],
        failures=FAILURES,
        number=number_text,
        model=paper.subject["model"]["name"] if paper.run is None else fact(paper.run, "model"),
        original=paper.recipe == "original",
    )
    return html


def reason(problem: Exception) -> str:
    """Why an experiment failed, in words."""
    return str(problem) if isinstance(problem, SelfRepairError) else f"{type(problem).__name__}: {problem}"


def _failures(paper: Paper) -> str:
    """Tracebacks of the failed experiments."""
    return "\n".join(
        f"{name}\n{''.join(traceback.format_exception(problem))}" for name, problem in paper.failed.items()
    )


def _write_exhibit(exhibit: Exhibit, folder: Path) -> str:
    """Writes its picture and its data; returns the data file's name."""
    if exhibit.picture is not None:
        title = f"{exhibit.figure}: {exhibit.title}"
        for kind in ("png", "svg"):
            put(folder / f"{exhibit.name}.{kind}", with_matplotlib.image(exhibit.picture, title, kind))
        put(folder / f"{exhibit.name}.html", with_plotly.picture_page(exhibit.picture, title, exhibit.caption).encode())
    if len(exhibit.table) > _MOST_CSV_ROWS:
        name = f"{exhibit.name}.parquet"
        put(folder / name, exhibit.table.to_parquet(index=False))
        return name
    name = f"{exhibit.name}.csv"
    put(folder / name, _csv(exhibit.table))
    return name


def _csv(table: pd.DataFrame) -> bytes:
    text: str = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return text.encode()


def _all_numbers(paper: Paper) -> pd.DataFrame:
    parts = [
        numbers_table(exhibit.numbers).assign(figure=exhibit.figure, exhibit=exhibit.name)
        for exhibit in paper.exhibits
        if exhibit.numbers
    ]
    return pd.concat(parts, ignore_index=True) if parts else numbers_table(())


def _facts(paper: Paper) -> dict[str, Any]:
    subject = paper.subject
    return {
        "model": subject["model"],
        "text": subject["text"],
        "ablation": None if paper.run is None else paper.run.plan["ablation"],
        "recipe": paper.recipe,
        "seconds": {name: round(value, 1) for name, value in paper.seconds.items()},
        "sweep_seconds": None if paper.run is None else paper.run.outcome.get("seconds"),
        "left_out": paper.left_out,
        "failed": {name: reason(problem) for name, problem in paper.failed.items()},
        "pending": paper.pending,
        "versions": subject["versions"],
        "exhibits": [exhibit.name for exhibit in paper.exhibits],
    }


def _shown_facts(paper: Paper) -> list[tuple[str, str]]:
    run = paper.run
    text = paper.subject["text"]
    measured = f"{text['scored_tokens']:,} tokens from {text['documents']} documents"
    spent = sum(paper.seconds.values())
    if run is None:
        return [
            ("Model", paper.subject["model"]["name"]),
            ("Text", f"{text.get('source', 'unknown')}: {measured}"),
            ("Sweep over all heads", "none: nothing that was asked for reads it"),
            ("Recipe", paper.recipe),
            ("Time", f"{spent / 60:.1f} minutes of computing"),
        ]
    spent += float(run.outcome.get("seconds") or 0)
    tokens = resolve_filter(run, None)
    return [
        ("Model", fact(run, "model")),
        ("Text", f"{fact(run, 'text')}: {measured}"),
        ("Ablation", f"{fact(run, 'operator')} (donors: {fact(run, 'donors')})"),
        ("Recipe", paper.recipe),
        ("Heads", f"{discoveries(run, tokens)} ({tokens})"),
        ("Numerical floor", f"{small(run.heads.attrs.get('numerical_floor', float('nan')))} logits"),
        ("Largest ledger residual", f"{small(run.heads.attrs.get('ledger_residual', float('nan')))} logits"),
        *([("Engine's error per token", error)] if (error := engine_error(run)) else []),
        ("Time", f"{spent / 60:.1f} minutes of computing"),
    ]


def number_text(number: Number | None) -> str:
    """A number with its interval, as text."""
    if number is None:
        return "–"
    unit = "" if number.units == "1" else f" {number.units}"
    if number.value != number.value:
        return "no tokens"
    if number.low != number.low:
        return f"{brief(number.value)}{unit}, {'exact' if number.exact else 'no interval'}"
    if math.isinf(number.low) and math.isinf(number.high):
        return f"({brief(number.value)}){unit}, may be anything: its denominator may be zero"
    return f"{brief(number.value)} ({brief(number.low)} to {brief(number.high)}){unit}"
