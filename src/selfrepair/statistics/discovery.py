"""Which heads the rest of the model reacts to: p-values, and the false discovery rate over all heads.

The test of a head is the intervals that tables print, said as a p-value: of self-repair against zero, and of the lost
direct effect against a negligible size. Over many heads it is corrected by Benjamini and Hochberg, and `labels` calls
those that pass repaired or amplified. So no head is called repaired whose printed interval contains zero.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from scipy.stats import t as student

from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.features import Array
from selfrepair.statistics.intervals import worth

Alternative = Literal["greater", "less", "two-sided"]
RATE = 0.05  # false discovery rate at which heads are called repaired or amplified


def p_values(
    estimate: Estimate,
    effective: np.ndarray | float | None = None,
    null: float = 0.0,
    alternative: Alternative = "greater",
) -> Array:
    """Student's t test of each number against `null`, with its document-level error.

    The two-sided p-value is below 5% just where the 95% interval leaves out `null`.

    Args:
        estimate: [...], from `Replicated.estimate`.
        effective: [...], effective documents, as given to the interval; E - 1 degrees of freedom.
        null: the value tested against.
        alternative: `greater`, `less` or `two-sided`.

    Returns:
        [...], NaN where there is no error.
    """
    freedom = worth(estimate.documents, effective) - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = (estimate.value - null) / estimate.standard_error
    if alternative == "two-sided":
        return np.asarray(2 * student.sf(np.abs(statistic), freedom))
    return np.asarray(student.sf(statistic if alternative == "greater" else -statistic, freedom))


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
    size = replace(lost, value=np.abs(lost.value))
    beyond = np.minimum(2 * p_values(size, effective, negligible, "greater"), 1.0)
    return np.maximum(p_values(self_repair, effective, alternative="two-sided"), beyond)


def q_values(p: np.ndarray) -> Array:
    """Benjamini-Hochberg adjusted p-values over all cells: q <= 0.05 are discoveries at a 5% false discovery rate.

    `q_(i) = min_{j >= i} m p_(j) / j` over the m p-values that are not NaN, at most 1. The rate holds for
    independent tests and for positively dependent ones, as those of heads on the same documents mostly are.
    Benjamini and Hochberg, J. R. Stat. Soc. B 57 (1995) 289; Benjamini and Yekutieli, Ann. Stat. 29 (2001) 1165.

    Args:
        p: [...], p-values; NaN where there is no test.

    Returns:
        [...], NaN where `p` is.
    """
    p = np.asarray(p, np.float64)
    tested = ~np.isnan(p)
    values = p[tested]
    order = np.argsort(values)
    scaled = values[order] * len(values) / np.arange(1, len(values) + 1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    q = np.full(p.shape, np.nan)
    q[tested] = adjusted
    return q
