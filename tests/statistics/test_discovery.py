import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, ttest_1samp

from selfrepair.statistics.discovery import p_values, q_values
from selfrepair.statistics.estimates import Estimate

probabilities = st.one_of(st.floats(0, 1), st.just(float("nan")), st.sampled_from([0.01, 0.05]))


@given(st.lists(probabilities, max_size=40))
def test_q_values_are_benjamini_and_hochbergs(p):
    p = np.array(p)
    tested = ~np.isnan(p)
    q = q_values(p)
    np.testing.assert_array_equal(np.isnan(q), ~tested)
    if tested.any():
        np.testing.assert_allclose(q[tested], false_discovery_control(p[tested]))


def test_q_values_keep_the_shape_of_the_heads():
    p = np.random.default_rng(0).random((3, 4))
    p[1, 2] = np.nan
    np.testing.assert_allclose(q_values(p).ravel(), q_values(p.ravel()))


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
def test_p_values_are_those_of_the_t_test(alternative):
    values = np.random.default_rng(1).normal(0.3, 1, (12, 5))
    error = values.std(0, ddof=1) / np.sqrt(12)
    estimate = Estimate(values.mean(0), error, error, error, np.full(5, 12))
    found = p_values(estimate, null=0.1, alternative=alternative)
    np.testing.assert_allclose(found, ttest_1samp(values, 0.1, alternative=alternative).pvalue)
    assert (p_values(estimate, 4.0, alternative="two-sided") > p_values(estimate, alternative="two-sided")).all()


def test_heads_without_an_error_are_not_tested():
    estimate = Estimate(np.ones(2), np.array([np.nan, 0.1]), np.ones(2), np.ones(2), np.array([1, 30]))
    assert np.isnan(p_values(estimate)).tolist() == [True, False]


def test_the_rate_of_false_discoveries_is_kept():
    rng = np.random.default_rng(2)
    rates = []
    for _ in range(300):
        values = rng.normal(np.where(np.arange(60) < 15, 0.6, 0.0), 1, (40, 60))
        error = values.std(0, ddof=1) / np.sqrt(40)
        found = q_values(p_values(Estimate(values.mean(0), error, error, error, np.full(60, 40)))) <= 0.1
        rates.append(found[15:].sum() / max(1, found.sum()))
    assert 0.05 < np.mean(rates) < 0.1
