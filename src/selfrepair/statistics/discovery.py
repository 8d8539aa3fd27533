"""Which heads are repaired at all: p-values, and the false discovery rate over all heads."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.stats import t as student

from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.features import Array
from selfrepair.statistics.intervals import worth

Alternative = Literal["greater", "less", "two-sided"]


def p_values(
    estimate: Estimate,
    effective: np.ndarray | float | None = None,
    null: float = 0.0,
    alternative: Alternative = "greater",
) -> Array:
    """Student's t test of each number against `null`, with its document-level error.

    "This head is repaired" is the one-sided test of `repaired_fraction` above 0 (the default): the fraction is
    positive when self-repair counters the damage, whichever way the head pushed. A head that loses next to no
    direct effect has a large error there, hence no small p-value.

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
