import numpy as np
import pytest

from selfrepair.errors import SelfRepairError
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.labels import LABELS, LabelRule, labels


def about(values, half=0.01):
    values = np.asarray(values, float)
    half = np.broadcast_to(half, values.shape)
    return Estimate(values, half / 2, values - half, values + half, np.full(values.shape, 50))


def test_each_region_has_its_label():
    lost = about([0.0, 0.02, 1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    total = about([0.0, -0.4, -0.95, 0.95, -0.3, 0.1, -1.8, 1.2, -0.75])
    repaired = about([0.9, 5.0, 0.05, 0.05, 0.7, 1.1, -0.8, 2.2, 0.25])
    found = labels(lost, total, repaired)
    expected = ["redundant", "indirectly important", "load-bearing", "load-bearing", "repaired", "repaired"]
    assert found.tolist() == [*expected, "amplified", "reversed", "uncertain"]
    assert set(found) <= set(LABELS)


def test_wide_intervals_decide_nothing():
    values = np.array([0.0, 1.0])
    assert set(labels(about(values, 3.0), about(-values, 3.0), about(values, 3.0))) == {"uncertain"}
    nowhere = about([np.nan])
    assert labels(nowhere, nowhere, nowhere).tolist() == ["uncertain"]


def test_a_head_that_loses_nothing_is_never_called_repaired():
    for total in (0.0, 0.3, -0.3):
        label = labels(about([0.0]), about([total]), about([1.0]))
        assert label[0] in ("redundant", "indirectly important")


def test_labels_follow_the_rule_and_keep_the_shape():
    lost, total, repaired = about(np.full((2, 3), 0.2)), about(np.full((2, 3), -0.1)), about(np.full((2, 3), 0.5))
    assert (labels(lost, total, repaired) == "repaired").all()
    assert (labels(lost, total, repaired, LabelRule(negligible=0.5)) == "redundant").all()
    assert (labels(lost, total, repaired, LabelRule(margin=0.6)) == "load-bearing").all()
    assert labels(lost, total, repaired).shape == (2, 3)


def test_the_rule_prints_itself_with_its_thresholds():
    text = LabelRule(negligible=0.07, margin=0.2).describe()
    assert "0.07" in text and "0.8" in text and "1.2" in text
    assert all(label in text for label in LABELS)


@pytest.mark.parametrize("wrong", [{"negligible": -1}, {"margin": 0}, {"margin": 1}])
def test_rules_that_make_no_sense_are_refused(wrong):
    with pytest.raises(SelfRepairError, match="label rule"):
        LabelRule(**wrong)
