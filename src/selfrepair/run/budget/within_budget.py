"""A job that takes a given time: how many windows of a text fit is found by a pilot and written into the plan.

Time decides the plan alone. From then on the run is one like any other, on a text of that many windows: it is resumed,
shared and repeated to the same bits, however long it takes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.sites import Site
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.results.plan import BudgetFacts, EngineFacts
from selfrepair.run.budget.pilot import Pilot, first_of_documents, least_seconds, pilot
from selfrepair.run.planning.effort_settings import EXACT_SHARE, Stopping
from selfrepair.run.planning.job import Job
from selfrepair.run.planning.prepare import Decided, prepare
from selfrepair.run.planning.settings import Settings
from selfrepair.statistics.exact_share import best_share
from selfrepair.statistics.two_phase import FEWEST_EXACT
from selfrepair.text import Windows

_USED = 0.9  # share of the time that is planned for: a pilot's seconds are not the run's
_PILOT_SHARE = 0.1  # of the time, that the pilot may take
_FEW, _SEVERAL, _MANY = 8, 16, 256  # windows of a pilot: of a quick look; to see how much they vary; at most


def require_minutes(minutes: float | None) -> None:
    """Refuses a time that is none.

    Raises:
        SelfRepairError: it is not above 0, or has no end.
    """
    if minutes is not None and not 0 < minutes < math.inf:
        raise SelfRepairError(f"Cannot measure for {minutes} minutes.", "Give a number above 0, such as --minutes 3.")


def within_budget(
    model: LanguageModel,
    windows: Windows,
    settings: Settings,
    interventions: Sequence[Intervention | Site] | None = None,
) -> Job:
    """Makes the plan of a run of `settings.stopping.minutes`, the pilot included.

    Args:
        model: the model.
        windows: the most text to measure; the run takes its first windows.
        settings: what was asked for.
        interventions: as for `prepare`.

    Raises:
        SelfRepairError: the time is too short for two documents; and as `prepare`.
    """
    started, minutes = time.perf_counter(), settings.stopping.minutes
    require_minutes(minutes)
    assert minutes is not None
    asked = replace(settings, stopping=replace(settings.stopping, minutes=None))
    seconds, least = _USED * 60 * minutes, _least_windows(windows, settings)
    small = prepare(model, first_of_documents(windows, _FEW + settings.ablation.donors), asked, interventions)
    lowest = least_seconds(small)
    guess = int(seconds / lowest)
    if guess < least:
        raise _too_short(minutes, least, lowest)
    exactly = replace(asked, estimation=replace(asked.estimation, exact_share=1.0))  # the guess is of exact windows
    first = prepare(model, _beginning(windows, min(guess, len(windows))), exactly, interventions)
    tried = _pilot_job(first, windows, exactly, interventions, int(_PILOT_SHARE * guess))
    found = pilot(tried, planned=min(guess, len(windows)))
    left = (seconds - (time.perf_counter() - started)) * settings.work.workers
    share = _share(first, settings, found, left)
    fit = _windows_that_fit(left, found, share)
    if fit < least:
        raise _too_short(minutes, least, found.every + found.exact)
    taken = min(fit, len(windows))
    facts = _facts(minutes, taken, len(windows), found, share, chosen=settings.estimation.exact_share is None)
    decided = Decided(first.engine, _engine_facts(first), facts)
    asked = replace(asked, estimation=replace(asked.estimation, exact_share=share))
    return prepare(model, _beginning(windows, taken), asked, interventions, decided)


def _share(job: Job, settings: Settings, found: Pilot, seconds: float) -> float | None:
    """The share of exact documents: as given, or what narrows intervals most; None where all are measured exactly."""
    given = settings.estimation.exact_share
    if job.plan["phases"] is None:
        return None
    if given is not None:
        return given
    best = None if found.variance is None else best_share(found.variance, found.every, found.exact, seconds)
    return EXACT_SHARE if best is None else best


def _pilot_job(
    first: Job,
    windows: Windows,
    asked: Settings,
    interventions: Sequence[Intervention | Site] | None,
    affordable: int,
) -> Job:
    """The job of the pilot, with the engine that the run will have.

    Args:
        first: a job with that engine.
        windows: all that there are.
        asked: the settings; in two phases with all documents in the exact part.
        interventions: as for `prepare`.
        affordable: windows that take no more than a pilot may.
    """
    fewest = max(FEWEST_EXACT, 1 + first.operator.donors)
    few = _FEW if first.plan["phases"] is None else _SEVERAL
    most = min(max(few, first.plan["windows_per_batch"]), max(fewest, affordable), _MANY)
    computing = asked.computing
    if asked.ablation.positions == "all":
        computing = replace(computing, engine=first.engine, precision=None)
    stopping = asked.stopping if first.plan["phases"] is None else Stopping(until_se=1.0, until="heads")
    settings = replace(asked, computing=computing, stopping=stopping)
    return prepare(first.model, first_of_documents(windows, most), settings, interventions)


def _windows_that_fit(seconds: float, found: Pilot, share: float | None) -> int:
    """How many windows take so long.

    Args:
        seconds: all that there is.
        found: what windows cost.
        share: of the windows that are measured exactly; None for all of them.
    """
    if share is None:
        return max(0, int(seconds / found.exact))
    fit = seconds / (found.every + share * found.exact)
    if share * fit < FEWEST_EXACT:  # that many are measured exactly, however small the share
        fit = (seconds - FEWEST_EXACT * found.exact) / found.every
    return max(0, int(fit))


def _least_windows(windows: Windows, settings: Settings) -> int:
    """The first windows of a text that have tokens of two documents; all, if it has one document only."""
    scored = windows.scored(windows.first_scored(settings.statistics.first))
    owners = np.where(scored, windows.documents[:, :-1], -1)
    numbers, first = np.unique(owners.max(1), return_index=True)
    places = np.sort(first[numbers >= 0])
    return int(places[FEWEST_EXACT - 1]) + 1 if len(places) >= FEWEST_EXACT else len(windows)


def _beginning(windows: Windows, number: int) -> Windows:
    """The first windows, as the text of so many tokens has them."""
    some = windows.select(np.arange(number))
    used = int(some.documents.max()) + 1
    provenance = {**windows.provenance, "tokens": number * windows.length}
    return replace(some, names=windows.names[:used], provenance=provenance)


def _engine_facts(job: Job) -> EngineFacts:
    plan: dict[str, Any] = {**job.plan}
    return cast(EngineFacts, {name: plan[name] for name in EngineFacts.__annotations__})


def _facts(minutes: float, taken: int, given: int, found: Pilot, share: float | None, chosen: bool) -> BudgetFacts:
    """The plan's entry: what was decided, and from which numbers.

    Args:
        minutes: the time.
        taken: windows.
        given: windows that could have been taken.
        found: by the pilot.
        share: of the windows that are measured exactly; None for all.
        chosen: whether the share was not given.
    """
    left = float(np.mean(found.variance.left)) if chosen and found.variance and len(found.variance.left) else None
    every, exact = _rounded(found.every), _rounded(found.exact)
    costs = f"{exact:g} s a window" if share is None else f"{every:g} s a window, {exact:g} s more if measured exactly"
    tried = f"{costs}, {found.windows} windows were tried"
    seconds = taken * (found.every + (1.0 if share is None else share) * found.exact)
    reason = f"{taken:,} windows fit in {_time(minutes)} ({tried})"
    if taken == given:
        needed = f"about {_rounded(seconds / 60):g} of {_time(minutes)}"
        reason = f"all {given:,} windows that there are, which take {needed} ({tried}); more text can use the rest"
    if left is not None and share is not None:
        reason += f"; {share:.0%} of them exactly, because the surrogate leaves {left:.0%} of heads' variance"
    return {
        "minutes": minutes,
        "windows_given": given,
        "windows_tried": found.windows,
        "seconds_every": every,
        "seconds_exact": exact,
        "variance_left": None if left is None else _rounded(left),
        "reason": reason,
    }


def _time(minutes: float) -> str:
    """A time in words."""
    return "1 minute" if minutes == 1 else f"{minutes:g} minutes"


def _rounded(value: float) -> float:
    """Two digits: a pilot knows no more."""
    return float(f"{value:.2g}")


def _too_short(minutes: float, least: int, each: float) -> SelfRepairError:
    needed = math.ceil(10 * least * each / _USED / 60 / (1 - _PILOT_SHARE)) / 10
    return SelfRepairError(
        f"{_time(minutes)} will not do for two documents: one window takes {_rounded(each):g} s or more, and "
        f"{least} are needed.",
        f"Give --minutes {max(needed, 0.1):g} or more, or fewer --heads.",
    )
