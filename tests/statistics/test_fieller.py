import numpy as np
import pytest

from selfrepair.paper.numbers.over_documents import Number, tally_of, whiskers
from selfrepair.statistics.bootstrap import bootstrap_all, document_weights, effective_documents
from selfrepair.statistics.curves import Moments
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.fieller import Variances, difference_of, fieller, ratio_interval
from selfrepair.statistics.intervals import interval

ABOVE = 0.3


def corpora(rng, number, documents, level):
    """Numerators and denominators of corpora [document, corpus], means 0.3 and `level` for each token."""
    sizes = np.maximum((50 * np.exp(0.6 * rng.normal(size=(documents, 1)))).astype(int), 5)
    below = sizes * (level + 0.5 * rng.normal(size=(documents, number)))
    above = sizes * (0.3 + 0.3 * rng.normal(size=(documents, number)))
    return sizes[:, 0], above, below


def simulated(documents, level, corpora_at_once=100, rounds=8):
    """Fieller's intervals, and those that a ratio's replicates give (which are in brackets within 2 SE of zero)."""
    found = []
    for seed in range(rounds):
        rng = np.random.default_rng([seed, documents])
        sizes, above, below = corpora(rng, corpora_at_once, documents, level)
        weights = document_weights(documents, 300, seed)
        sums, drawn = (above.sum(0), below.sum(0)), (bootstrap_all(above, weights), bootstrap_all(below, weights))
        several = float(effective_documents(sizes))
        new = ratio_interval(sums, drawn, documents, several)
        old = interval(sums[0] / sums[1], drawn[0] / drawn[1], documents, several)
        lost = interval(sums[1], drawn[1], documents, several)
        sure = np.abs(lost.value) > 2 * lost.standard_error
        found.append((holds(new, level), np.isinf(new.low), holds(old, level), sure))
    return np.concatenate(found, axis=1)


def holds(estimate, level):
    return (estimate.low <= ABOVE / level) & (estimate.high >= ABOVE / level)


@pytest.mark.parametrize("documents", [8, 20, 60])
@pytest.mark.parametrize("level", [0.05, 0.3, 1.0])
def test_ratios_cover_however_near_to_zero_the_denominator(documents, level):
    covered, unbounded, _, _ = simulated(documents, level)
    assert 0.93 <= covered.mean() <= (1.0 if unbounded.mean() > 0.02 else 0.98)
    if level == 1.0:
        assert unbounded.mean() < 0.2


def test_two_standard_errors_let_through_what_has_no_interval():
    """What is replaced: a denominator two standard errors from zero, and an interval that takes it for sure."""
    covered, unbounded, old, sure = (one.astype(bool) for one in simulated(20, 0.05))
    assert sure.mean() > 0.05 and old[sure].mean() < 0.7
    assert unbounded.mean() > 0.9 and covered.mean() > 0.94


def test_the_interval_is_the_set_of_ratios_that_are_not_ruled_out():
    variances = Variances(np.array(4.0), np.array(1.0), np.array(0.25))
    low, high = fieller(np.array(10.0), np.array(5.0), variances, np.array(2.0))
    for ratio, inside in ((low, 1), (high, 1), (low - 1e-6, 0), (high + 1e-6, 0), (0.5 * (low + high), 1)):
        away = abs(10 - ratio * 5) / np.sqrt(variances.of_difference(ratio))
        assert (away <= 2.0 + 1e-9) == bool(inside)
    assert low < 2 < high


def test_without_ends_is_said_with_infinities():
    variances = Variances(np.array([1.0, 100.0]), np.array([0.0, 0.0]), np.array([9.0, 9.0]))
    low, high = fieller(np.array([10.0, 10.0]), np.array([1.0, 1.0]), variances, np.array([2.0, 2.0]))
    assert (low == -np.inf).all() and (high == np.inf).all()  # all but a gap, and everything
    number = Number("a ratio", 10.0, -np.inf, np.inf, 5)
    assert "denominator may be zero" in str(number)
    below, above = whiskers([number, Number("b", 1.0, 0.5, 2.0), Number("c", 1.0)])
    assert np.isfinite([below, above]).all() and below[0] > 10 and below[1:].tolist() == [0.5, 0.0]


def test_one_document_has_no_interval(recwarn):
    one = ratio_interval((np.ones(2), np.ones(2)), (np.ones((9, 2)), np.ones((9, 2))), np.array([1, 0]))
    assert np.isnan(one.low).all() and np.isnan(one.standard_error).all() and not recwarn.list
    nothing = ratio_interval((np.zeros(1), np.zeros(1)), (np.zeros((9, 1)), np.zeros((9, 1))), 5)
    assert np.isnan(nothing.value).all() and np.isnan(nothing.low).all() and not recwarn.list


def test_moments_and_papers_numbers_have_the_same_interval():
    sizes, above, below = corpora(np.random.default_rng(5), 1, 40, 0.6)
    weights = document_weights(40, 4000)
    boot = ratio_interval(
        (above.sum(0), below.sum(0)), (bootstrap_all(above, weights), bootstrap_all(below, weights)), 40,
        float(effective_documents(sizes)),
    )  # fmt: skip
    linear = Moments.of(above[:, 0], below[:, 0]).ratio()
    paper = tally_of(np.arange(40), {"above": above[:, 0], "below": below[:, 0]}).ratio("above", "below")
    for found in (linear, paper):
        np.testing.assert_allclose((found.low, found.high), (boot.low[0], boot.high[0]), rtol=0.1, atol=0.05)


def test_differences_of_ratios_are_infinite_where_theirs_are_and_cancel_where_paired():
    def one(value, low, high):
        return Estimate(*(np.array([end]) for end in (value, 0.1, low, high)), np.array([9]))

    apart = difference_of(one(0.2, 0.1, 0.5), one(0.5, 0.3, 0.6))
    np.testing.assert_allclose(apart.value, 0.3)
    np.testing.assert_allclose(apart.low, 0.3 - np.hypot(0.2, 0.3))
    np.testing.assert_allclose(apart.high, 0.3 + np.hypot(0.1, 0.1))
    paired = difference_of(one(0.2, 0.1, 0.3), one(0.5, 0.4, 0.6), 1.0)
    np.testing.assert_allclose((paired.low, paired.high), 0.3)
    unbounded = difference_of(one(0.2, -np.inf, np.inf), one(0.5, 0.4, 0.6), 1.0)
    assert np.isinf(unbounded.low) and np.isinf(unbounded.high)
