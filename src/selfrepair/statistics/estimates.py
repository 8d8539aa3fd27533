"""A number with its document-level error and interval.

Tokens of one document are not independent, so documents, not tokens, are the units that vary. Errors come from a
bootstrap over documents (`intervals`) or are linearised from moments over documents (`component_lines`, `curves`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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


def worth(documents: np.ndarray | int, effective: np.ndarray | float | None) -> Array:
    """Documents that intervals go by: the effective ones where known, at least two."""
    number = np.asarray(documents if effective is None else effective, np.float64)
    return np.broadcast_to(np.maximum(number, 2.0), np.broadcast_shapes(np.shape(documents), number.shape))
