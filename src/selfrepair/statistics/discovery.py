"""Controls the false discovery rate over all heads."""

from __future__ import annotations

import numpy as np

from selfrepair.statistics.features import Array


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
