"""Estimates in two phases from the documents so far: right for any surrogate, with errors that hold at every look."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfrepair.run.planning.exact_part import evenly_spaced
from selfrepair.statistics.curves import Moments
from selfrepair.statistics.stopping import MINIMUM, StopRule, confidence_sequence
from selfrepair.statistics.two_phase_moments import PhaseSums, TwoPhaseMoments

TRUTH = 0.3


def corpora(seed, documents, cells, share, noise=0.15):
    """Documents of unequal size in random order; a surrogate that is off by a half, and varies [document, cell]."""
    rng = np.random.default_rng(seed)
    tokens = np.maximum(rng.poisson(4, (documents, cells)), 0).astype(float)
    repair = tokens * (TRUTH + 0.5 * (rng.exponential(size=tokens.shape) - 1))
    cheap = 0.5 * repair + tokens * noise * rng.normal(size=tokens.shape)
    part = np.zeros(documents, bool)
    part[evenly_spaced(documents, round(share * documents), float(rng.random()))] = True
    return PhaseSums(cheap, repair * part[:, None], tokens, tokens * part[:, None]), repair


def first(sums, documents):
    return PhaseSums(*(column[:documents] for column in sums))


@given(seed=st.integers(0, 10**6), cells=st.integers(1, 4))
def test_with_all_documents_in_the_part_they_are_the_measured_ones(seed, cells):
    sums, repair = corpora(seed, 40, cells, 1.0)
    found, expected = TwoPhaseMoments.of_means(sums).mean(), Moments.of(repair, sums.tokens).mean()
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-9)
    np.testing.assert_allclose(found.standard_error, expected.standard_error, rtol=1e-6)
    below = np.random.default_rng(seed).normal(2, 1, 40)
    found, expected = (
        moments.ratio() for moments in (TwoPhaseMoments.of_ratio(sums, below), Moments.of(repair.sum(1), below))
    )
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-9)
    np.testing.assert_allclose(found.standard_error, expected.standard_error, rtol=0.02)


@given(seed=st.integers(0, 10**6), shift=st.floats(-3, 3))
def test_a_surrogate_that_is_off_by_as_much_on_every_token_changes_nothing(seed, shift):
    sums, _ = corpora(seed, 60, 3, 0.3)
    moved = sums._replace(surrogate=sums.surrogate + shift * sums.tokens)
    below = np.random.default_rng(seed).normal(2, 1, 60)
    for make in (TwoPhaseMoments.of_means, lambda some: TwoPhaseMoments.of_ratio(some, below)):
        found, expected = make(moved).mean(), make(sums).mean()
        np.testing.assert_allclose(found.value, expected.value, atol=1e-9)
        np.testing.assert_allclose(found.standard_error, expected.standard_error, rtol=1e-6)


def test_estimates_are_the_surrogates_mean_and_the_mean_difference_on_the_part():
    sums, repair = corpora(3, 60, 2, 0.3)
    part = sums.counted.sum(1) > 0
    tokens = sums.tokens.sum(0)
    correction = (repair - sums.surrogate)[part].sum(0) / sums.tokens[part].sum(0)
    expected = sums.surrogate.sum(0) / tokens + correction
    np.testing.assert_allclose(TwoPhaseMoments.of_means(sums).mean().value, expected, rtol=1e-12)
    below = np.arange(1.0, 61)
    ratio = TwoPhaseMoments.of_ratio(sums, below).ratio().value
    assert float(ratio) == pytest.approx(float((expected * tokens).sum() / below.sum()), rel=1e-12)


def test_errors_are_the_spread_over_corpora():
    """2,000 corpora as cells of one; the spread of estimates over them is what their errors say."""
    sums, _ = corpora(5, 120, 2000, 0.25)
    estimate = TwoPhaseMoments.of_means(sums).mean()
    assert np.std(estimate.value) == pytest.approx(np.sqrt(np.mean(estimate.standard_error**2)), rel=0.06)
    assert np.mean(estimate.value) == pytest.approx(TRUTH, abs=0.004)
    exact = Moments.of(sums.exact, sums.counted).mean()
    assert np.median(estimate.standard_error) < 0.8 * np.median(exact.standard_error), "the surrogate helps"


def test_documents_are_those_of_the_phase_that_varies():
    sums, _ = corpora(7, 200, 1, 0.2, noise=2.0)  # a surrogate of noise: the part decides
    poor = TwoPhaseMoments.of_means(sums)
    assert 25 < float(poor.effective[0]) < 50
    sums, _ = corpora(7, 200, 1, 0.2, noise=0.0)
    sums = sums._replace(surrogate=2 * sums.surrogate)  # right on every token
    good = TwoPhaseMoments.of_means(sums)
    assert float(good.effective[0]) == pytest.approx(float(Moments.of(sums.exact, sums.tokens).effective[0]))


def test_a_head_without_two_documents_in_the_part_gives_no_interval():
    sums, _ = corpora(9, 60, 3, 0.3)
    part = np.flatnonzero(sums.counted[:, 1])
    few = sums.counted.copy()
    few[part[1:], 1] = 0
    sums = sums._replace(counted=few, exact=np.where(few > 0, sums.exact, 0))
    means = TwoPhaseMoments.of_means(sums)
    assert np.isnan(means.mean().low[1]) and np.isfinite(means.mean().low[[0, 2]]).all()
    together = TwoPhaseMoments.of_ratio(sums, np.ones(60))
    assert np.isnan(together.ratio().low) and np.isinf(confidence_sequence(together, 60, ratio=True).high)
    rule = StopRule(100.0, 60)
    assert rule.reached(means).tolist() == [True, False, True]
    assert not rule.reached(together, ratio=True)


def test_intervals_at_all_looks_hold_together():
    planned, covered, plain = 300, np.ones(1000, bool), np.ones(1000, bool)
    sums, _ = corpora(11, planned, 1000, 0.25)
    rule, last = StopRule(0.1, planned), 0
    for documents in range(MINIMUM, planned + 1):
        if rule.due(documents, last) or documents == planned:
            last = documents
            moments = TwoPhaseMoments.of_means(first(sums, documents))
            found, usual = confidence_sequence(moments, planned), moments.mean()
            covered &= (found.low <= TRUTH) & (found.high >= TRUTH)
            plain &= (usual.low <= TRUTH) & (usual.high >= TRUTH)
    assert np.isfinite(found.low).all()
    assert covered.mean() >= 0.94 and plain.mean() < 0.88
