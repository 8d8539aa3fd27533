"""What is known of a run before it begins, by which its engine is chosen."""

from __future__ import annotations

import numpy as np
import pytest

from selfrepair.run.planning import planned_engine
from selfrepair.run.planning.planned_engine import positions_needed
from selfrepair.statistics.filters import Filter


@pytest.mark.parametrize("fraction", [0.001, 0.02, 0.2])
@pytest.mark.parametrize("length", [16, 64, 512])
def test_positions_needed_are_those_up_to_the_last_token_of_a_filter(fraction, length, monkeypatch):
    monkeypatch.setattr(planned_engine, "_UNEVEN", 1.0)
    monkeypatch.setattr(planned_engine, "_MARGIN", 1.0)
    chosen = np.random.default_rng(0).random((4000, length)) < fraction
    reach = np.where(chosen, np.arange(1, length + 1), 0).max(1).mean() / length
    assert positions_needed([Filter("top", fraction)], length) == pytest.approx(reach, abs=0.03 + 1 / length)


def test_filters_of_one_kind_lie_in_each_other():
    wide, both = [Filter("top", 0.05)], [Filter("top", 0.05), Filter("top", 0.01)]
    assert positions_needed(both, 64) == positions_needed(wide, 64)
    assert positions_needed([*wide, Filter("bottom", 0.05)], 64) > positions_needed(wide, 64)
    assert positions_needed([Filter("top", 1.0)], 64) == 1.0
