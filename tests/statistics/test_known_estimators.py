"""Estimators that take only what surrogates know exactly say so, and no others do."""

from __future__ import annotations

import numpy as np
import pytest

from selfrepair.statistics.estimators import all_estimators
from selfrepair.statistics.features import FEATURES

KNOWN = {"count", "direct_effect", "ablated_direct_effect", "lost", "direct_effect_squared", "lost_squared"}
ESTIMATORS = all_estimators()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_is_known_if_nothing_else_moves_it(name):
    sums = 10 + np.random.default_rng(0).random((50, len(FEATURES)))
    sums[:, FEATURES.index("count")] = 40
    moved = sums.copy()
    others = [place for place, feature in enumerate(FEATURES) if feature not in KNOWN]
    moved[:, others] *= 1.01
    estimator = ESTIMATORS[name]
    assert estimator.known is np.array_equal(estimator(moved), estimator(sums), equal_nan=True)
