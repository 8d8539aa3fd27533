import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linearised import with_interval
from selfrepair.errors import SelfRepairError
from selfrepair.statistics.discovery import q_values
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.labels import LABELS, LabelRule, labels
from selfrepair.statistics.reaction import reaction_p_values


def about(values, half=0.01):
    values = np.asarray(values, float)
    half = np.broadcast_to(half, values.shape)
    return Estimate(values, half / 2, values - half, values + half, np.full(values.shape, 50))


def test_each_region_has_its_label():
    lost = about([0.0, 0.02, 1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    total = about([0.0, -0.4, -0.95, 0.95, -0.3, 0.1, -1.8, 1.2, -0.75])
    repaired = about([0.9, 5.0, 0.05, 0.05, 0.7, 1.1, -0.8, 2.2, 0.25], 0.02)
    q = np.array([1.0, 1.0, 0.2, 0.2, 0.01, 0.01, 0.01, 0.01, 0.2])
    found = labels(lost, total, repaired, q)
    expected = ["redundant", "indirectly important", "load-bearing", "load-bearing", "repaired", "repaired"]
    assert found.tolist() == [*expected, "amplified", "repaired", "uncertain"]
    assert set(found) == set(LABELS)


def test_wide_intervals_decide_nothing():
    values = np.array([0.0, 1.0])
    unsure = about(values, 3.0), about(-values, 3.0), about(values, 3.0)
    assert set(labels(*unsure, np.ones(2))) == {"uncertain"}
    nowhere = about([np.nan])
    assert labels(nowhere, nowhere, nowhere, np.array([np.nan])).tolist() == ["uncertain"]


def test_unbounded_intervals_decide_nothing():
    lost, total = about([0.2, 0.0], [0.01, 0.1]), about([-0.2, -0.1])
    nothing = Estimate(np.zeros(2), np.ones(2), np.full(2, -np.inf), np.full(2, np.inf), np.full(2, 50))
    assert labels(lost, total, nothing, np.ones(2)).tolist() == ["uncertain", "uncertain"]


@given(
    st.lists(st.tuples(*[st.floats(-2, 2), st.floats(0.001, 1)] * 2), min_size=1, max_size=30), st.sampled_from([5, 40])
)
def test_repaired_heads_have_intervals_beyond_zero_and_pass_the_false_discovery_rate(heads, documents):
    repair, repair_error, loss, loss_error = np.array(heads).T
    count = np.full(len(heads), documents)
    lost, self_repair = with_interval(loss, loss_error, count), with_interval(repair, repair_error, count)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        fraction = with_interval(repair / loss, repair_error, count)
    rule = LabelRule()
    p = reaction_p_values(self_repair, lost, negligible=rule.negligible)
    found = labels(lost, with_interval(repair - loss, loss_error, count), fraction, q_values(p), rule)
    beyond = (lost.low > rule.negligible) | (lost.high < -rule.negligible)
    sure = beyond & ((self_repair.low > 0) | (self_repair.high < 0))
    np.testing.assert_array_equal(sure, p <= 0.05)
    counters = repair * loss > 0
    assert not ((found == "repaired") & ~(sure & counters)).any()
    assert not ((found == "amplified") & ~(sure & ~counters)).any()
    np.testing.assert_array_equal(np.isin(found, ["repaired", "amplified"]), q_values(p) <= rule.rate)


def test_the_rate_of_heads_wrongly_called_repaired_is_kept_over_many_heads():
    rng = np.random.default_rng(1)
    wrong = []
    for _ in range(200):
        repair = rng.normal(np.where(np.arange(80) < 8, 1.2, 0.0), 1, (12, 80))
        lost = np.full((12, 80), 2.0) + rng.normal(0, 0.2, (12, 80))
        one = [with_interval(x.mean(0), x.std(0, ddof=1) / np.sqrt(12), np.full(80, 12)) for x in (repair, lost)]
        q = q_values(reaction_p_values(*one, negligible=0.05))
        found = labels(one[1], one[1], one[0], q)
        wrong.append((found[8:] != "uncertain").sum() / max(1, (found != "uncertain").sum()))
    assert np.mean(wrong) < 0.06


def test_labels_keep_the_shape_and_follow_the_rule():
    lost, total, repaired = about(np.full((2, 3), 0.2)), about(np.full((2, 3), -0.2)), about(np.full((2, 3), 0.0))
    q = np.full((2, 3), 0.07)
    assert (labels(lost, total, repaired, q) == "load-bearing").all()
    assert (labels(lost, total, repaired, q, LabelRule(negligible=0.5)) == "redundant").all()
    assert (labels(lost, total, about(np.full((2, 3), 0.3)), q, LabelRule(rate=0.1)) == "repaired").all()
    assert labels(lost, total, repaired, q).shape == (2, 3)


def test_the_rule_prints_itself_with_its_thresholds():
    text = LabelRule(negligible=0.07, margin=0.2, rate=0.1).describe()
    assert all(said in text for said in ("0.07", "0.8", "1.2", "q <= 0.1", "rate of 10%"))
    assert all(label in text for label in LABELS)


@pytest.mark.parametrize("wrong", [{"negligible": -1}, {"margin": 0}, {"margin": 1}, {"rate": 0}])
def test_rules_that_make_no_sense_are_refused(wrong):
    with pytest.raises(SelfRepairError, match="label rule"):
        LabelRule(**wrong)
