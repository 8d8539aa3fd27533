import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, ttest_1samp

from linearised import with_interval
from selfrepair.statistics.discovery import q_values
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.reaction import reaction_p_values

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


def test_p_values_are_those_of_the_two_sided_t_test():
    rng = np.random.default_rng(1)
    repair, lost = rng.normal(0.3, 1, (12, 5)), rng.normal(3, 1, (12, 5))
    count = np.full(5, 12)
    both = [with_interval(x.mean(0), x.std(0, ddof=1) / np.sqrt(12), count) for x in (repair, lost)]
    np.testing.assert_allclose(reaction_p_values(*both), ttest_1samp(repair, 0).pvalue)
    swapped = reaction_p_values(both[1], both[0])  # the larger of the two decides
    np.testing.assert_allclose(swapped, ttest_1samp(repair, 0).pvalue)
    assert (reaction_p_values(*both, effective=4) > reaction_p_values(*both)).all()
    assert (reaction_p_values(*both, negligible=5.0) == 1).all()


def test_heads_without_an_error_are_not_tested():
    estimate = Estimate(np.ones(2), np.array([np.nan, 0.1]), np.ones(2), np.ones(2), np.array([1, 30]))
    assert np.isnan(reaction_p_values(estimate, estimate)).tolist() == [True, False]


def test_the_rate_of_false_discoveries_is_kept():
    rng = np.random.default_rng(2)
    rates = []
    for _ in range(300):
        values = rng.normal(np.where(np.arange(60) < 15, 0.6, 0.0), 1, (40, 60))
        error = values.std(0, ddof=1) / np.sqrt(40)
        estimate = Estimate(values.mean(0), error, error, error, np.full(60, 40))
        found = q_values(reaction_p_values(estimate, estimate)) <= 0.1
        rates.append(found[15:].sum() / max(1, found.sum()))
    assert 0.05 < np.mean(rates) < 0.1
