"""Bias of an inexact engine in the means that a run prints: its effects on their tokens against replay's.

Errors of single tokens mostly cancel in a mean; what does not is a bias, and matters beside the mean's standard error.
Taken only where the sampled error is above the limit, on the heads that tables show.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from selfrepair.ablation.interventions import ports_of
from selfrepair.ablation.sites import Head
from selfrepair.engine import ReplayEngine
from selfrepair.engine.clean import clean_run
from selfrepair.results.runs import Run
from selfrepair.run.planning.batch_size import tokens_of
from selfrepair.run.planning.job import Job
from selfrepair.run.storage.unit_file import Arrays
from selfrepair.run.unit.operator_inputs import BatchSource
from selfrepair.run.unit.sweep import replacement

SHOWN = 20  # heads with the largest direct effects: those that tables show by default
_WINDOWS = 8  # of a head at most, those with most of its tokens
_COLUMNS = ("layer", "head", "window", "position", "direct_effect", "total_effect", "in_sample")

Kept = dict[Head, dict[int, dict[int, float]]]
"""The engine's total effect by head, window and position."""


@dataclass(frozen=True)
class Bias:
    """Bias of one head, under the filter that tables show.

    Attributes:
        head: its name.
        filter: the filter's label.
        tokens: how many of the mean's tokens were compared.
        bias: mean of the engine's total effect less replay's, logits; the same for self-repair.
        standard_error: of the head's mean self-repair, over documents, logits.
    """

    head: str
    filter: str
    tokens: int
    bias: float
    standard_error: float


def biases(job: Job, surveyed: Arrays, run: Run) -> list[Bias]:
    """Replays the tokens that the shown means are over, or those of some of their windows.

    Args:
        job: the run.
        surveyed: the merged survey.
        run: its results.
    """
    label = job.filters[job.main_filter].label
    kept = _kept(job, run, label)
    by_window: dict[int, list[Head]] = defaultdict(list)
    for head, windows in kept.items():
        for window in sorted(windows, key=lambda number: (-len(windows[number]), number))[:_WINDOWS]:
            by_window[window].append(head)
    errors: dict[Head, list[float]] = defaultdict(list)
    with job.model.running():
        for window, heads in sorted(by_window.items()):
            for head, truth in _replayed(job, surveyed, window, heads):
                errors[head] += [effect - float(truth[index]) for index, effect in kept[head][window].items()]
    standard_errors = run.heads["self_repair_standard_error"].sel(filter=label)
    return [
        Bias(
            job.at[head].name,
            label,
            len(of_head),
            float(np.mean(of_head)),
            float(standard_errors.sel(layer=head.layer, head=head.head)),
        )
        for head, of_head in errors.items()
    ]


def _kept(job: Job, run: Run, label: str) -> Kept:
    """Kept tokens of the shown heads that pass the filter; of a filter that passes all, the uniform sample's."""
    effects, limits = (run.heads[name].sel(filter=label).values for name in ("direct_effect", "threshold"))
    order = np.argsort(-np.nan_to_num(effects, nan=-np.inf), axis=None)
    chosen = {divmod(int(index), effects.shape[1]) for index in order[:SHOWN]}
    filter_ = job.filters[job.main_filter]
    kept: Kept = defaultdict(lambda: defaultdict(dict))
    for batch in run.token_batches(_COLUMNS):
        rows = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in _COLUMNS}
        limit = limits[rows["layer"], rows["head"]]
        passing = filter_.passes_kept(rows["direct_effect"], limit, rows["in_sample"])
        for row in np.flatnonzero(passing):
            layer, head, window, position = (int(rows[name][row]) for name in _COLUMNS[:4])
            if (layer, head) in chosen:
                kept[Head(layer, head)][window][position] = float(rows["total_effect"][row])
    return {Head(*pair): kept[Head(*pair)] for pair in sorted(chosen) if Head(*pair) in kept}


def _replayed(job: Job, surveyed: Arrays, window: int, heads: list[Head]) -> Iterator[tuple[Head, np.ndarray]]:
    """Total effects of heads on a window by replay, averaged over draws, [position]."""
    alone = np.array([window])
    clean = clean_run(job.model, tokens_of(job.windows, alone, job.model), ports=ports_of(job.interventions))
    source, engine = BatchSource(job, surveyed, alone), ReplayEngine(fold=1)
    totals: dict[Head, list[np.ndarray]] = defaultdict(list)
    for draw in range(job.operator.draws):
        in_place = partial(replacement, job.operator, clean, source, draw)
        for ledger in engine.sweep(job.model, clean, [job.at[head] for head in heads], in_place, False):
            for index, intervention in enumerate(ledger.interventions):
                totals[Head(*job.cells[intervention])].append(ledger.total_effect[index, 0].double().cpu().numpy())
    for head, draws in totals.items():
        yield head, np.mean(draws, axis=0)
