"""A pilot: what measuring costs, on a few windows of the text that is about to be measured, by the code that will."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from functools import cached_property
from typing import cast

import numpy as np

from selfrepair.ablation.interventions import ports_of
from selfrepair.engine.clean import clean_run
from selfrepair.progress import ignore
from selfrepair.results.plan import Plan
from selfrepair.run.planning.batch_size import tokens_of
from selfrepair.run.planning.job import Job
from selfrepair.run.storage.finished_unit import Unit
from selfrepair.run.storage.unit_file import Arrays
from selfrepair.run.unit.running_sums import REPAIR, TOKENS
from selfrepair.run.unit.sums import EACH_HEAD, ESTIMATED
from selfrepair.run.unit.survey import survey_unit
from selfrepair.run.unit.sweep import sweep_unit
from selfrepair.run.unit.thresholds import thresholds
from selfrepair.statistics.exact_share import HeadVariance, variance_left
from selfrepair.statistics.keep_limits import SPREADS
from selfrepair.statistics.two_phase_moments import PhaseSums
from selfrepair.text import Windows

_PASSES = 2  # clean runs of a window, in the survey and in the sweep, and one of each donor
_CLEAN_WINDOWS = 4
_ROUNDS, _SHORT = 5, 0.3  # of timing, where one takes no more than so many seconds: work beside hits it hard


@dataclass(frozen=True)
class Pilot:
    """What a few windows tell about all.

    Attributes:
        windows: how many were tried.
        every: seconds that each window takes, though it be estimated only: survey, clean runs, surrogate. 0 where
            all are measured exactly.
        exact: seconds that a window takes beside, if it is measured exactly.
        variance: how much of the variance the surrogate leaves; None where it does not estimate the main filter.
    """

    windows: int
    every: float
    exact: float
    variance: HeadVariance | None = None


@dataclass(frozen=True)
class _PilotJob(Job):
    """The windows of a pilot as one unit, without the checks of which a run makes few.

    Attributes:
        planned: documents that the run will have, about.
    """

    planned: int = 0

    def is_probed(self, unit: int) -> bool:
        """See `Design`: never."""
        return False

    @cached_property
    def spreads(self) -> float | None:
        """See `Design`: as many tokens of each document are kept as of one among the planned documents."""
        documents = len(np.unique(self.documents[self.scored]))
        return None if super().spreads is None else SPREADS * float(np.sqrt(documents / max(self.planned, documents)))


def pilot(job: Job, planned: int) -> Pilot:
    """Measures what windows cost.

    Args:
        job: a job of a few windows; in two phases with all documents in the exact part, and one that watches each head.
        planned: documents that the run will have, about.
    """
    tried, phases = len(job.windows), job.plan["phases"]
    whole = _of_one_unit(job, job.plan, planned)
    if phases is None:
        return Pilot(tried, 0.0, _seconds(whole)[0] / tried)
    plan = cast(Plan, {**job.plan, "phases": {**phases, "exact_documents": 0}})
    every = _seconds(_of_one_unit(job, plan, planned))[0] / tried
    seconds, swept = _seconds(whole)
    variance = _variance(swept, job) if job.watches_estimates else None
    return Pilot(tried, every, max(seconds / tried - every, 0.0), variance)


def clean_seconds(job: Job) -> float:
    """Seconds of a clean run of a window, the faster of two."""
    chosen = np.arange(min(_CLEAN_WINDOWS, len(job.windows)))
    best = np.inf
    with job.model.running():
        for _ in range(2):
            started = time.perf_counter()
            tokens = tokens_of(job.windows, chosen, job.model)
            clean_run(job.model, tokens, ports=ports_of(job.interventions)).sigma.cpu()  # waits for the device
            best = min(best, time.perf_counter() - started)
    return best / len(chosen)


def least_seconds(job: Job) -> float:
    """Seconds of a window that is measured exactly, next to which nothing is faster but lower precision: forwards of
    the blocks from each head's layer up."""
    layers = job.model.anatomy.layers
    ablated = job.operator.draws * sum(layers - head.layer for head in job.heads) / layers
    return clean_seconds(job) * (_PASSES + job.operator.donors + ablated)


def first_of_documents(windows: Windows, number: int) -> Windows:
    """The first window of each of so many documents, the longest first: a window's donors are as long at least."""
    first = np.sort(np.unique(windows.documents[:, 0], return_index=True)[1])
    return windows.select(first[np.argsort(-windows.lengths[first], kind="stable")][:number])


def _variance(swept: Arrays, job: Job) -> HeadVariance:
    """What the surrogate leaves of the heads of a unit all of whose documents are measured exactly."""
    layers, heads = np.transpose(job.heads)
    exact, cheap = (swept[name][:, layers, heads] for name in (EACH_HEAD, ESTIMATED))
    return variance_left(PhaseSums(cheap[..., REPAIR], exact[..., REPAIR], cheap[..., TOKENS], exact[..., TOKENS]))


def _of_one_unit(job: Job, plan: Plan, planned: int) -> _PilotJob:
    kept = {field.name: getattr(job, field.name) for field in fields(Job)}
    size = len(job.windows)
    return _PilotJob(**kept | {"plan": cast(Plan, {**plan, "windows_per_unit": size})}, planned=planned)


def _seconds(job: _PilotJob) -> tuple[float, Arrays]:
    """Seconds of survey and sweep, and what the sweep finds: the fastest of several rounds where they are short, and of
    two where something has to be compiled first."""
    fewest = 2 if job.plan["engine_settings"].get("compiled") else 1
    best, swept = _measured(job)
    for number in range(1, _ROUNDS):
        if number >= fewest and best > _SHORT:
            break
        best = min(best, _measured(job)[0])
    return best, swept


def _measured(job: _PilotJob) -> tuple[float, Arrays]:
    started = time.perf_counter()
    found = survey_unit(job, 0, ignore)
    surveyed = time.perf_counter()
    merged = thresholds(job, [Unit(0, arrays=found)])
    merging = time.perf_counter() - surveyed
    swept = sweep_unit(job, 0, merged, ignore)
    return time.perf_counter() - started - merging, swept
