import numpy as np
import pytest
from scipy.stats import norm

from selfrepair.errors import SelfRepairError
from selfrepair.statistics.curves import Moments
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.stopping import MINIMUM, StopRule, confidence_sequence, multiplier


def looks(rng, corpora, documents):
    """The running repaired fraction after each document, [look, corpus]; the truth is 0.3."""
    sizes = np.maximum((40 * np.exp(0.6 * rng.normal(size=(documents, corpora)))).astype(int), 3)
    lost = sizes * (1 + 0.4 * rng.normal(size=sizes.shape)) + np.sqrt(sizes) * rng.normal(size=sizes.shape)
    repair = 0.3 * lost + sizes * 0.5 * rng.exponential(size=sizes.shape) - 0.5 * sizes
    parts = [np.ones_like(sizes), repair, lost, repair**2, repair * lost, lost**2]
    return Moments(*(np.cumsum(part, axis=0) for part in parts)).mean()


def test_the_sequence_covers_at_every_look_where_plain_intervals_do_not():
    running = looks(np.random.default_rng(0), 1500, 600)
    for planned in (200, 600, 5000):
        sequence = confidence_sequence(running, planned)
        always = ((sequence.low <= 0.3) & (0.3 <= sequence.high)).all(axis=0)
        assert always.mean() >= 0.95, planned
    after = slice(MINIMUM, None)
    plain = ((running.low[after] <= 0.3) & (0.3 <= running.high[after])).all(axis=0)
    assert plain.mean() < 0.80


def test_the_interval_at_the_stop_covers():
    running = looks(np.random.default_rng(1), 1500, 600)
    stop = StopRule(0.03, planned=300)
    reached = stop.reached(running)
    assert not reached[: MINIMUM - 1].any() and reached.any(axis=0).mean() > 0.9
    at = np.where(reached.any(axis=0), reached.argmax(axis=0), len(reached) - 1)
    sequence = confidence_sequence(running, 300)
    low, high = (np.take_along_axis(side, at[None], 0)[0] for side in (sequence.low, sequence.high))
    assert np.mean((low <= 0.3) & (0.3 <= high)) >= 0.95
    widths = (high - low)[reached.any(axis=0)]
    assert widths.max() <= 2 * 1.96 * 0.03 and widths.mean() > 1.9 * 1.96 * 0.03


def test_the_sequence_is_tightest_for_its_number_of_documents_where_planned():
    for planned in (100, 10_000):
        at = multiplier(planned, planned)
        assert at == pytest.approx(3.03, abs=0.02)
        for other in (planned // 3, planned * 3):
            assert multiplier(planned, other) > at
    assert multiplier(50, 100, level=0.99) > multiplier(50, 100)


def test_the_formula_is_the_papers():
    alpha, rho, t = 0.05, 0.2, 123
    best = -2 * np.log(alpha) + np.log(-2 * np.log(alpha) + 1)
    planned = best / rho**2
    expected = np.sqrt(2 * (t * rho**2 + 1) / (t**2 * rho**2) * np.log(np.sqrt(t * rho**2 + 1) / alpha))
    assert multiplier(t, planned) / np.sqrt(t) == pytest.approx(expected)


def test_before_the_first_look_the_sequence_says_nothing():
    error = np.full(3, 1e-9)
    few = Estimate(np.zeros(3), error, -1.96 * error, 1.96 * error, np.array([0, MINIMUM - 1, MINIMUM]))
    sequence = confidence_sequence(few, 100)
    assert np.isinf(sequence.high[:2]).all() and np.isfinite(sequence.high[2])
    assert StopRule(0.01, 100).reached(few).tolist() == [False, False, True]
    nowhere = Estimate(np.zeros(1), np.array([np.nan]), np.array([np.nan]), np.array([np.nan]), np.array([1]))
    assert not StopRule(0.01, 100).reached(nowhere).any()


def test_a_large_sample_keeps_the_standard_errors_units():
    wide = norm.ppf(0.975) * 0.01
    one = Estimate(np.zeros(1), np.full(1, 0.01), np.full(1, -wide), np.full(1, wide), np.array([5000]))
    sequence = confidence_sequence(one, 5000)
    np.testing.assert_allclose(sequence.high, 0.01 * multiplier(5000, 5000))
    assert not StopRule(0.0150, 5000).reached(one) and StopRule(0.0160, 5000).reached(one)


def test_targets_that_cannot_be_reached_are_refused():
    with pytest.raises(SelfRepairError, match="standard error"):
        StopRule(0.0, 100)
    assert "0.01" in StopRule(0.01, 100).describe()
