import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from selfrepair.statistics.bootstrap import bootstrap_all, document_weights, effective_documents
from selfrepair.statistics.discovery import p_values, q_values
from selfrepair.statistics.features import FEATURES, INDEX
from selfrepair.statistics.intervals import Replicated

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


def run(rng, cells, repaired, lost=1.0, documents=40):
    """Sums of heads with these true repaired fractions, over documents of unequal size."""
    sizes = rng.integers(5, 40, (documents, 1)).astype(float)
    below = sizes * (lost + 0.3 * rng.normal(size=(documents, cells)))
    sums = np.zeros((documents, cells, len(FEATURES)))
    sums[..., INDEX["count"]], sums[..., INDEX["lost"]] = sizes, below
    sums[..., INDEX["self_repair"]] = repaired * below + sizes * rng.normal(size=(documents, cells))
    weights = document_weights(documents, 200, int(rng.integers(1000)))
    effective = np.broadcast_to(effective_documents(sizes), cells)
    return Replicated(sums.sum(0), bootstrap_all(sums, weights), np.full(cells, documents), effective)


def test_a_p_value_is_the_level_at_which_the_interval_reaches_zero():
    heads = run(np.random.default_rng(1), 60, 0.3)
    p = p_values(heads)
    assert ((p < 0.025) == (heads.estimate("repaired_fraction").low > 0)).all() and 5 < (p < 0.025).sum() < 55


def test_what_loses_nothing_for_sure_is_not_repaired_for_sure():
    heads = run(np.random.default_rng(2), 300, 5.0, lost=0.0)
    assert (p_values(heads) < 0.01).mean() < 0.05, "self-repair is sure there, but not what it repairs"


def test_heads_without_an_error_are_not_tested():
    heads = run(np.random.default_rng(3), 2, 0.3)
    one = Replicated(heads.sums, heads.replicates, np.array([1, 40]), heads.effective)
    assert np.isnan(p_values(one)).tolist() == [True, False]
    with pytest.raises(ValueError, match="ratio"):
        p_values(heads, "self_repair")


def test_the_rate_of_false_discoveries_is_kept():
    rng = np.random.default_rng(2)
    rates = []
    for _ in range(200):
        found = q_values(p_values(run(rng, 60, np.where(np.arange(60) < 15, 0.6, 0.0)))) <= 0.1
        rates.append(found[15:].sum() / max(1, found.sum()))
    assert 0.03 < np.mean(rates) < 0.1
