"""Builds one self-contained HTML file from results folders: no server, no network, no other file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from selfrepair.errors import SelfRepairError
from selfrepair.report import captions
from selfrepair.report.page import closeups, head_numbers, kept_tokens, run_facts
from selfrepair.report.page import text as page_text
from selfrepair.report.page.differences import page_differences
from selfrepair.report.page.ledger_lines import lines
from selfrepair.report.page.method import method
from selfrepair.report.page.pack import Blocks, plain_json
from selfrepair.report.page.script import application, library, style
from selfrepair.results import atomic_files, run_folder
from selfrepair.results.filter_labels import resolve_filter
from selfrepair.results.intervention_axis import grid_shape
from selfrepair.results.runs import Run
from selfrepair.statistics.filters import Filter
from selfrepair.statistics.labels import AMPLIFIED, LABELS

NEEDED = ("jinja2", "plotly")
TEXT_TOKENS = 1_300_000  # tokens of text that go into the page
ROWS = 320_000  # kept tokens that go into the page, for models of up to ROWS / ROWS_PER_HEAD heads
ROWS_PER_HEAD, MOST_ROWS = 800, 1_200_000


@dataclass(frozen=True)
class PageRun:
    """One run of a page.

    Attributes:
        run: the run.
        folder: where it is, as the reader's own code would name it; None where it is only in memory.
    """

    run: Run
    folder: Path | None = None


def missing() -> str:
    """What has to be installed before pages can be made; empty if nothing is missing."""
    absent = [name for name in NEEDED if find_spec(name) is None]
    return f"pip install 'selfrepair[report]' (no {' and no '.join(absent)})" if absent else ""


def write_page(sources: Sequence[str | Path | Run | PageRun], out: str | Path) -> Path:
    """Writes the report of one run or several.

    Example:
        >>> write_report([run], "report.html").name
        'report.html'

    Args:
        sources: results folders, or runs in memory; the others are compared with the first.
        out: the HTML file; replaced if it exists.

    Raises:
        SelfRepairError: no run, a folder that cannot be read, a package that is missing, a file that cannot be
            written.
    """
    text = page_html([_source(source) for source in sources])
    path = Path(out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_files.put(path, text.encode())
    except OSError as problem:
        raise SelfRepairError(f"Cannot write {path}: {problem}.", "Give another file with --out.") from problem
    return path


def _source(given: str | Path | Run | PageRun) -> PageRun:
    if isinstance(given, PageRun):
        return given
    return PageRun(given) if isinstance(given, Run) else PageRun(run_folder.load_run(given), Path(given))


def page_html(sources: Sequence[PageRun], start: str = "") -> str:
    """The page as text.

    Args:
        sources: the runs.
        start: the view it opens at if its address names none, e.g. `map` or `L9H6`.

    Raises:
        SelfRepairError: no run, or a package that is missing.
    """
    if missing():
        raise SelfRepairError("The report needs packages that are not installed.", missing())
    if not sources:
        raise SelfRepairError("There is no run to report on.", "Give the folder that a run wrote.")
    from jinja2 import Environment, StrictUndefined

    blocks = Blocks()
    index = {
        "start": start,
        "runs": [run_index(source, blocks, len(sources)) for source in sources],
        "differences": page_differences([source.run for source in sources], [source.folder for source in sources]),
        "method": method(),
        "library": blocks.raw(library().encode()),
    }
    scripts = {"application": application(), "library": library()}
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        resources.files(__package__).joinpath("templates", "page.html.j2").read_text(encoding="utf-8")
    )
    text: str = template.render(
        title=" · ".join(dict.fromkeys(captions.fact(source.run, "model") for source in sources)),
        hashes=" ".join(f"'sha256-{_hash(text)}'" for text in scripts.values()),
        style=style(),
        application=scripts["application"],
        index=plain_json(index),
        blocks=blocks.texts,
    )
    return text


def run_index(source: PageRun, blocks: Blocks, runs: int = 1) -> dict[str, Any]:
    """The entry of one run in the page's index; its data go to `blocks`.

    Args:
        source: the run.
        blocks: where the data go.
        runs: how many runs share the page's room.
    """
    run = source.run
    layers, heads = grid_shape(run.interventions)
    room = max(ROWS, min(MOST_ROWS, ROWS_PER_HEAD * layers * heads)) // runs
    kept = kept_tokens.kept_tokens(run, room, closeups.closeup_places(run))
    windows = _windows(run, kept, TEXT_TOKENS // runs)
    return {
        "name": run_facts.name(run),
        "folder": None if source.folder is None else str(source.folder),
        "model": captions.fact(run, "model"),
        "facts": run_facts.facts(run),
        "limits": run_facts.limits(run),
        "command": run_facts.command(run),
        "operator": captions.operator_with_donors(run),
        "filters": [_filter(run, label) for label in run.filters],
        "standing": run.filters.index(resolve_filter(run, None)),
        "errors": captions.errors(run),
        "leftOut": captions.positions_left_out(run),
        "floor": captions.floor(run),
        "status": captions.status_warning(run),
        "layers": layers,
        "heads": heads,
        "modelHeads": head_numbers.heads_of_model(run),
        "names": head_numbers.intervention_names(run),
        "what": captions.ablated(run),
        "lose": captions.lost(run).removeprefix("what "),
        "donors": str(run.interventions.attrs.get("donors", "")),
        "labels": list(LABELS),
        "rule": head_numbers.label_rule(run),
        "repairedRule": f"{captions.repaired_rule(AMPLIFIED)}.",
        "quantities": head_numbers.quantities(run),
        "lines": lines(run),
        "pooled": head_numbers.pooled(run),
        "cells": head_numbers.cells(run, blocks),
        "curve": head_numbers.curve(run, blocks),
        "repairers": head_numbers.repairers(run, blocks),
        "step": kept.step,
        "sampled": _sampled(run, kept, windows),
        **kept_tokens.token_blocks(run, kept, blocks, windows),
        "passages": closeups.passage_blocks(run, blocks, windows, kept.step),
        "closeups": closeups.closeup_blocks(run, blocks, windows),
        "text": page_text.text_block(run, windows, closeups.named_tokens(run), blocks),
    }


def _filter(run: Run, label: str) -> dict[str, str | bool]:
    return {
        "label": label,
        "chooses": Filter.parse(label).chooses,
        "words": captions.chosen_tokens(label, captions.ablated(run)),
        "estimated": captions.how_estimated(run, label),
        "amount": captions.amount(run, label),
        "discoveries": captions.discoveries(run, label),
    }


def _windows(run: Run, kept: kept_tokens.Kept, most: int) -> np.ndarray:
    """Windows that go into the page: all, or those that passages and close-ups need and an even spread of others."""
    lengths = page_text.window_lengths(run)
    if lengths.sum() <= most:
        return np.arange(len(lengths))
    needed = np.union1d(closeups.passage_windows(run), sorted({closeup[2] for closeup in closeups.closeup_places(run)}))
    needed = needed.astype(np.int64)
    others = np.setdiff1d(kept.windows(), needed)
    fit = max(0, int((most - lengths[needed].sum()) // max(1, lengths.mean())))
    spread = others[np.linspace(0, len(others) - 1, min(fit, len(others))).astype(int)] if len(others) else others
    return np.union1d(needed, spread).astype(np.int64)


def _sampled(run: Run, kept: kept_tokens.Kept, windows: np.ndarray) -> str:
    """What did not fit, in words; empty if everything did."""
    rows, all_rows = int(np.isin(kept.columns["window"], windows).sum()), kept.total
    cuts = []
    if rows < all_rows:
        cuts.append(
            f"{rows:,} of the {all_rows:,} kept tokens are in this page: each head's most and least repaired, most "
            "broken and closely looked at ones, and an even draw of the rest. Densities count all of them"
        )
    if len(windows) < run.windows.num_rows:
        cuts.append(f"{len(windows):,} of {run.windows.num_rows:,} windows of text are in this page")
    return ". ".join(cuts)


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
