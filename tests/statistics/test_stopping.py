import numpy as np
import pytest

from selfrepair.errors import SelfRepairError
from selfrepair.statistics.curves import Moments
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.stopping import MINIMUM, TUNED, StopRule, confidence_sequence, multiplier


def looks(rng, corpora, documents, noise):
    """The running repaired fraction after each document, [look, corpus], with its moments; the truth is 0.3."""
    sizes = np.maximum((40 * np.exp(0.6 * rng.normal(size=(documents, corpora)))).astype(int), 3)
    lost = sizes * (1 + 0.4 * rng.normal(size=sizes.shape)) + np.sqrt(sizes) * rng.normal(size=sizes.shape)
    own = rng.exponential(size=sizes.shape) - 1 if noise == "exponential" else rng.normal(size=sizes.shape)
    repair = 0.3 * lost + 0.5 * sizes * own
    parts = [np.ones_like(sizes), repair, lost, repair**2, repair * lost, lost**2]
    moments = Moments(*(np.cumsum(part, axis=0) for part in parts))
    return moments.mean(), moments.effective


def holds(estimate, documents=MINIMUM):
    """Whether every interval from this many documents on holds the truth, [corpus]."""
    inside = (estimate.low <= 0.3) & (estimate.high >= 0.3)
    return inside[documents - 1 :].all(axis=0)


@pytest.mark.parametrize("noise", ["exponential", "normal"])
def test_the_sequence_covers_at_every_look_where_plain_intervals_do_not(noise):
    running, effective = looks(np.random.default_rng(0), 1000, 500, noise)
    for planned in (100, 5000):
        assert holds(confidence_sequence(running, planned, effective)).mean() >= 0.95, planned
    assert holds(running).mean() < 0.75


def test_the_interval_at_the_stop_covers():
    running, effective = looks(np.random.default_rng(1), 1000, 500, "exponential")
    rule = StopRule(0.08, planned=400)
    reached = rule.reached(running, effective)
    stopped = reached.any(axis=0)
    assert not reached[: MINIMUM - 1].any() and stopped.mean() > 0.9
    at = np.where(stopped, reached.argmax(axis=0), len(reached) - 1)
    sequence = confidence_sequence(running, 400, effective)
    low, high = (np.take_along_axis(side, at[None], 0)[0] for side in (sequence.low, sequence.high))
    assert np.mean((low <= 0.3) & (high >= 0.3)) >= 0.95
    widths = (high - low)[stopped] / (2 * 1.96 * 0.08)
    assert 0.9 < widths.mean() <= widths.max() <= 1.001


def test_the_sequence_is_tightest_for_its_number_of_documents_where_planned():
    for planned in (3 * TUNED, 10_000):
        at = multiplier(planned, planned)
        assert at == pytest.approx(3.03, abs=0.02)
        for other in (planned // 3, planned * 3):
            assert multiplier(planned, other) > at
    assert multiplier(50, 100, level=0.99) > multiplier(50, 100) == multiplier(50, TUNED)


def test_the_formula_is_the_papers():
    alpha, rho, t = 0.05, 0.02, 1234
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
    nothing = np.zeros(1)
    one = Estimate(nothing, np.full(1, 0.01), nothing, nothing, np.array([5000]))
    np.testing.assert_allclose(confidence_sequence(one, 5000).high, 0.01 * multiplier(5000, 5000), rtol=2e-3)
    few = confidence_sequence(one, 5000, effective=8.0)
    assert few.high > 1.5 * confidence_sequence(one, 5000).high
    assert not StopRule(0.0150, 5000).reached(one) and StopRule(0.0160, 5000).reached(one)


def test_targets_that_cannot_be_reached_are_refused():
    with pytest.raises(SelfRepairError, match="standard error"):
        StopRule(0.0, 100)
    assert "0.01" in StopRule(0.01, 100).describe()
