"""Runs that may stop early: intervals at all looks, at the stop, and the standard error it stops at."""

from __future__ import annotations

import numpy as np

from selfrepair.statistics.curves import Moments
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.stopping import MINIMUM, StopRule, confidence_sequence
from simulation.corpora import SPREAD, TOKENS, noise
from simulation.measured import Tally

TRUTH, RUNS = 0.3, 200  # repaired fraction; runs made at once
AFTER = 2.0  # runs ask for the standard error that an ordinary run would have after 1 / AFTER of the text


def book_stops(tally: Tally, rng: np.random.Generator, documents: int, tails: str) -> None:
    """Books runs of at most this many documents; nothing where they are fewer than the first look needs."""
    if documents < MINIMUM:
        return
    parts = _sums(rng, documents, tails)
    final = _at(parts, documents).ratio()
    rule = StopRule(float(np.median(final.standard_error)) * np.sqrt(AFTER), documents)
    covered, done, stop = np.ones(RUNS, bool), np.zeros(RUNS, bool), np.zeros((2, RUNS))
    for look in _looks(rule, documents):
        moments = _at(parts, look)
        found = confidence_sequence(moments, documents, ratio=True)
        covered &= _holds(found)
        now = ~done & (rule.reached(moments, ratio=True) | (look == documents))
        early = now & (look < documents)
        stop[0, now], stop[1, early] = _holds(found)[now], found.standard_error[early] / rule.target
        done |= now
    tally.share("early stop, at every look", covered)
    tally.share("early stop, at the stop", stop[0])
    if stop[1].any():
        tally.held["standard error at the stop, over that asked for"].append(float(np.median(stop[1][stop[1] > 0])))


def _looks(rule: StopRule, documents: int) -> list[int]:
    found, last = [], 0
    for number in range(1, documents + 1):
        if rule.due(number, last) or number == documents:
            found.append(number)
            last = number
    return found


def _sums(rng: np.random.Generator, documents: int, tails: str) -> list[np.ndarray]:
    """Running moments of self-repair and lost direct effect, [document, run]."""
    draw, effect = noise(rng, tails != "light"), noise(rng, tails == "heavy everything")
    sizes = np.maximum((TOKENS * np.exp(SPREAD * rng.normal(size=(documents, RUNS)))).astype(int), 8)
    lost = sizes * (1 + 0.4 * effect(documents, RUNS)) + np.sqrt(sizes) * effect(documents, RUNS)
    repair = TRUTH * lost + sizes * 0.5 * draw(documents, RUNS)
    return [np.cumsum(one, axis=0) for one in (np.ones_like(sizes), repair, lost, repair**2, repair * lost, lost**2)]


def _at(parts: list[np.ndarray], look: int) -> Moments:
    return Moments(*(one[look - 1] for one in parts))


def _holds(found: Estimate) -> np.ndarray:
    return np.asarray((found.low <= TRUTH) & (found.high >= TRUTH))
