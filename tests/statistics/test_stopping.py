from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import norm

from selfrepair.errors import SelfRepairError
from selfrepair.statistics.curves import Moments
from selfrepair.statistics.stopping import GROWTH, MINIMUM, StopRule, confidence_sequence, looks, multiplier


def running(rng, corpora, documents, noise):
    """Moments of the repaired fraction after each document, [document, corpus]; the truth is 0.3."""
    sizes = np.maximum((40 * np.exp(0.6 * rng.normal(size=(documents, corpora)))).astype(int), 3)
    lost = sizes * (1 + 0.4 * rng.normal(size=sizes.shape)) + np.sqrt(sizes) * rng.normal(size=sizes.shape)
    draws = {
        "exponential": lambda: rng.exponential(size=sizes.shape) - 1,
        "normal": lambda: rng.normal(size=sizes.shape),
        "student": lambda: rng.standard_t(3, size=sizes.shape) / np.sqrt(3),
    }
    repair = 0.3 * lost + 0.5 * sizes * draws[noise]()
    parts = [np.ones_like(sizes), repair, lost, repair**2, repair * lost, lost**2]
    return [np.cumsum(part, axis=0) for part in parts]


def at(parts, documents):
    return Moments(*(part[documents - 1] for part in parts))


def schedule(rule, documents):
    """After how many documents the rule looks, when it may look after each one."""
    found, last = [], 0
    for number in range(1, documents + 1):
        if rule.due(number, last):
            found.append(number)
            last = number
    return found


def holds(estimate):
    return (estimate.low <= 0.3) & (estimate.high >= 0.3)


@pytest.mark.parametrize("noise", ["exponential", "normal", "student"])
@pytest.mark.parametrize("ratio", [True, False])
def test_intervals_at_all_looks_cover_together_where_plain_ones_do_not(noise, ratio):
    parts, planned = running(np.random.default_rng(0), 1500, 400, noise), 400
    when = [*schedule(StopRule(0.1, planned), planned), planned]
    every = [holds(confidence_sequence(at(parts, number), planned, ratio=ratio)) for number in when]
    assert 0.94 <= np.mean(np.all(every, axis=0)) <= 0.985
    after_each = [holds(at(parts, number).mean()) for number in range(MINIMUM, planned + 1)]
    assert np.mean(np.all(after_each, axis=0)) < 0.8


def test_the_interval_at_the_stop_covers():
    parts, planned = running(np.random.default_rng(1), 1000, 400, "exponential"), 400
    rule = StopRule(0.08, planned)
    when = [*schedule(rule, planned), planned]
    found = [confidence_sequence(at(parts, number), planned, ratio=True) for number in when]
    reached = np.array([rule.reached(at(parts, number), ratio=True) for number in when])
    first = np.where(reached.any(0), reached.argmax(0), len(when) - 1)
    low, high, error = (
        np.array([getattr(one, name) for one in found])[first, np.arange(len(first))]
        for name in ("low", "high", "standard_error")
    )
    assert reached.any(0).mean() > 0.9
    assert np.mean((low <= 0.3) & (high >= 0.3)) >= 0.95
    stopped = reached.any(0)
    assert 0.75 < ((high - low)[stopped] / (2 * 1.96 * 0.08)).mean() <= 1
    assert 0.5 < np.median(error[stopped]) / 0.08 < 0.8, "as the docs and the help say"


def test_looks_are_as_many_as_the_multiplier_counts():
    for planned in (30, 31, 80, 500, 3000):
        when = schedule(StopRule(0.1, planned), planned)
        assert when[0] == MINIMUM and len(when) + 1 <= looks(planned) + (when[-1] == planned)
        assert all(later >= GROWTH * before for before, later in pairwise(when))


def test_the_multiplier_holds_for_a_random_walk():
    rng, planned = np.random.default_rng(2), 300
    when = np.array([*schedule(StopRule(0.1, planned), planned), planned])
    steps = rng.normal(size=(20_000, len(when))) * np.sqrt(np.diff(when, prepend=0))
    largest = np.abs(np.cumsum(steps, axis=1) / np.sqrt(when)).max(1)
    assert 0.95 <= np.mean(largest <= multiplier(planned)) < 0.965
    assert np.mean(largest <= norm.isf(0.025)) < 0.85
    assert norm.isf(0.025) < multiplier(30) < multiplier(300) < multiplier(300, level=0.99) < 4


def test_before_the_first_look_the_sequence_says_nothing():
    count = np.array([0, 1, MINIMUM - 1, MINIMUM])
    few = Moments(count, *(np.ones(4) * one for one in (30.0, 100.0, 33.0, 100.0, 400.0)))
    sequence = confidence_sequence(few, 100)
    assert np.isinf(sequence.high[:3]).all() and np.isfinite(sequence.high[3])
    assert StopRule(0.5, 100).reached(few).tolist() == [False, False, False, True]


def test_a_denominator_near_zero_never_stops_a_run():
    rng = np.random.default_rng(3)
    repair, lost = rng.normal(1, 0.1, 100), rng.normal(0, 1, 100)
    moments = Moments.of(repair, lost)
    sequence = confidence_sequence(moments, 100, ratio=True)
    assert sequence.low == -np.inf and sequence.high == np.inf
    assert not StopRule(1e6, 100).reached(moments, ratio=True)


def test_targets_that_cannot_be_reached_are_refused():
    with pytest.raises(SelfRepairError, match="standard error"):
        StopRule(0.0, 100)
    assert "0.01" in StopRule(0.01, 100).describe() and "at most 0.79" in StopRule(0.01, 100).describe()
