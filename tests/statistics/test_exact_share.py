"""The exact share that narrows intervals most: against the closed form, and against corpora."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfrepair.statistics.exact_share import HeadVariance, best_share, squared_width, variance_left
from selfrepair.statistics.two_phase_moments import PhaseSums, TwoPhaseMoments


def heads(*left, worth=1.0):
    return HeadVariance(np.array(left), np.full(len(left), worth))


@given(
    left=st.lists(st.floats(0.01, 0.9), min_size=1, max_size=5),
    every=st.floats(0.01, 0.5),
)
def test_with_much_time_it_is_the_closed_form(left, every):
    rest = float(np.mean(left))
    expected = min(1.0, np.sqrt(every * rest / (1 - rest)))  # sqrt(c / (r - 1)) with r = 1 / left
    found = best_share(heads(*left), every, 1.0, 1e7)
    assert found == pytest.approx(expected, rel=0.05)


def test_few_exact_documents_are_not_worth_it():
    """In a short time the share is larger, because of Student's quantile; two exact documents have to fit."""
    some = heads(0.05, 0.1)
    shares = [best_share(some, 0.05, 1.0, seconds) for seconds in (5.0, 20.0, 100.0, 10**6)]
    assert sorted(shares, reverse=True) == shares and shares[0] > 1.5 * shares[-1]
    assert np.isinf(squared_width(some, 0.05, 1.0, 10.0, 0.005))


def test_a_surrogate_of_no_use_leaves_all_and_everything_is_measured():
    assert best_share(heads(1.0, 1.0), 0.1, 1.0, 1000.0) == 1.0
    assert best_share(heads(), 0.1, 1.0, 1000.0) is None


def sums(rng, documents, cells, noise, part):
    tokens = np.full((documents, cells), 4.0)
    repair = rng.normal(size=tokens.shape)
    cheap = repair + noise * rng.normal(size=tokens.shape)
    there = np.arange(documents)[:, None] < part
    return PhaseSums(cheap, repair * there, tokens, tokens * there)


def test_what_surrogates_leave():
    rng = np.random.default_rng(0)
    both = sums(rng, 4000, 3, 0.5, 4000)
    np.testing.assert_allclose(variance_left(both).left, 0.25, rtol=0.1)
    np.testing.assert_allclose(variance_left(both).worth, 1.0)
    shifted = both._replace(surrogate=both.surrogate + 7 * both.tokens)
    np.testing.assert_allclose(variance_left(shifted).left, variance_left(both).left)
    right, noise = both._replace(surrogate=both.exact), both._replace(surrogate=9 * both.surrogate[::-1])
    assert (variance_left(right).left == 0).all() and (variance_left(noise).left == 1).all()
    nothing = both._replace(tokens=both.tokens * [0, 1, 1], exact=both.exact * [0, 1, 1])
    assert len(variance_left(nothing).left) == 2


@pytest.mark.parametrize("share", [0.1, 0.3, 0.8])
def test_widths_are_those_of_intervals(share):
    """2,000 corpora of as many documents as fit, a quarter of whose variance is left."""
    every, exact, seconds = 0.1, 1.0, 30.0
    documents = round(seconds / (every + share * exact))
    both = sums(np.random.default_rng(1), documents, 2000, 0.5, round(share * documents))
    estimate = TwoPhaseMoments.of_means(both).mean()
    measured = np.mean(((estimate.high - estimate.low) / 2) ** 2) * 4.0**2  # per token: a document has four
    assert measured == pytest.approx(squared_width(heads(0.25), every, exact, seconds, share), rel=0.12)
