"""Tests whether the rest of the model reacts to a head's ablation: the tables' intervals as a p-value.

Over many heads it is corrected by Benjamini and Hochberg (`discovery`), and `labels` calls those that pass repaired or
amplified. So no head is called repaired whose printed interval of self-repair contains zero.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student

from selfrepair.statistics.estimates import Estimate, worth
from selfrepair.statistics.features import Array

RATE = 0.05  # false discovery rate at which heads are called repaired or amplified


def reaction_p_values(
    self_repair: Estimate, lost: Estimate, effective: np.ndarray | float | None = None, negligible: float = 0.0
) -> Array:
    """Tests that the ablation takes direct effect away and that the rest of the model reacts to it.

    Both have to be so, hence the larger of two p-values (an intersection-union test): of mean self-repair against
    zero, and of the lost direct effect's size against `negligible`. It is at most 5% just where the 95% interval of
    self-repair leaves out zero and that of the lost direct effect lies beyond `negligible`. Which way the model reacts
    is read off the signs afterwards; Benjamini-Hochberg over two-sided tests keeps its rate for such directions too
    (Benjamini and Yekutieli, J. Am. Stat. Assoc. 100 (2005) 71).

    Args:
        self_repair: [...], estimator `self_repair`.
        lost: [...], estimator `lost_direct_effect`.
        effective: [...], effective documents, as given to the intervals.
        negligible: centred logits up to which a lost direct effect counts as none.

    Returns:
        [...], NaN where there is no error.
    """
    return np.maximum(_p_values(self_repair, effective, 0.0), _p_values(lost, effective, negligible))


def _p_values(estimate: Estimate, effective: np.ndarray | float | None, size: float) -> Array:
    """Student's t test that a number's size is above `size`: at most 5% where its 95% interval lies beyond that."""
    freedom = worth(estimate.documents, effective) - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = (np.abs(estimate.value) - size) / estimate.standard_error
    return np.asarray(np.minimum(2 * student.sf(statistic, freedom), 1.0))
