"""The race: contestants take turns, so that whatever the machine does besides hits them all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from race.lanes import Lane, OutOfTheRace
from race.peak import Peaks, best_peaks, measure_peaks
from race.runner import Lap
from race.task import Order

PAUSE = 0.5
"""Seconds between turns: threads that have just worked go on spinning for a moment, in the next one's way."""


@dataclass
class Outcome:
    """What became of one contestant: its laps, one a round, or why there are none."""

    engine: str
    warm_up: float | None = None
    laps: list[Lap] = field(default_factory=list)
    failure: str | None = None

    @property
    def seconds(self) -> list[float]:
        """Seconds of each lap; none of a contestant that did not finish."""
        return [] if self.failure else [lap.seconds for lap in self.laps]


def race(
    order: Order, engines: Sequence[str], repeats: int, together: bool, say: Callable[[str], None]
) -> tuple[list[Outcome], Peaks]:
    """Every engine's laps, and the machine's peaks: the best of those measured before each round.

    Args:
        order: the task.
        engines: names of contestants.
        repeats: rounds.
        together: everybody in this process.
        say: told of every lap.
    """
    lanes = {name: Lane(name, order, together) for name in engines}
    outcomes = {name: Outcome(name) for name in engines}
    peaks = []
    try:
        for name, lane in lanes.items():
            _attempt(outcomes[name], lane, say)
        for round_ in range(repeats):
            peaks.append(measure_peaks(order.device))
            for name, lane in lanes.items():
                if outcomes[name].failure is None:
                    _attempt(outcomes[name], lane, say, round_ + 1)
    finally:
        for lane in lanes.values():
            lane.close()
    return list(outcomes.values()), best_peaks(peaks)


def _attempt(outcome: Outcome, lane: Lane, say: Callable[[str], None], round_: int | None = None) -> None:
    time.sleep(PAUSE)
    try:
        if round_ is None:
            outcome.warm_up = lane.warm_up()
            say(f"{outcome.engine}: ready, {outcome.warm_up:.1f} s to warm up")
        else:
            outcome.laps.append(lane.lap())
            say(f"{outcome.engine}: round {round_}, {outcome.laps[-1].seconds:.1f} s")
    except OutOfTheRace as out:
        outcome.failure = str(out)
        say(f"{outcome.engine}: {out}")
