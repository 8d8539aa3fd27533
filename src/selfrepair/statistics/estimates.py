"""A number with its document-level error and interval.

Tokens of one document are not independent, so documents, not tokens, are the units that vary. Errors come from a
bootstrap over documents (`intervals`) or are linearised from moments over documents (`lines`, `curves`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

Array = npt.NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its document-level standard error and 95% interval; all arrays of one shape.

    NaN stands where there are no tokens; with fewer than two documents only the error and interval are NaN.
    """

    value: Array
    standard_error: Array
    low: Array
    high: Array
    documents: npt.NDArray[np.int64]


def with_interval(value: np.ndarray, error: np.ndarray, documents: np.ndarray) -> Estimate:
    """An estimate with Student's 95% interval, `documents - 1` degrees of freedom; NaN below two documents."""
    freedom = np.where(documents > 1, documents - 1.0, np.nan)
    half = error * student.ppf((1 + LEVEL) / 2, freedom)
    return Estimate(value, np.where(documents > 1, error, np.nan), value - half, value + half, documents)


def worth(documents: np.ndarray | int, effective: np.ndarray | float | None) -> Array:
    """Documents that intervals go by: the effective ones where known, at least two."""
    number = np.asarray(documents if effective is None else effective, np.float64)
    return np.broadcast_to(np.maximum(number, 2.0), np.broadcast_shapes(np.shape(documents), number.shape))
