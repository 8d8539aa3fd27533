"""Two halves of the documents: heads are chosen on one half and judged on the other.

The head with the largest of many noisy numbers usually has the luckiest noise. Measured on documents not used for the
choice, its number is unbiased and its interval is valid.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

FIRST, SECOND = 0, 1
ON_FIRST, ON_SECOND = ", first half of documents", ", second half of documents"
ON_HALF = (ON_FIRST, ON_SECOND)
"""Endings of the names of numbers of one half."""


def half_of(documents: int, half: int) -> np.ndarray:
    """Which documents are in a half, bool [document]: every other one, so that both have texts of all kinds."""
    return np.asarray(np.arange(documents) % 2 == half)


def rows_in_half(rows: pd.DataFrame, half: int) -> pd.DataFrame:
    """Rows of (head, token) pairs whose `document`, a categorical, is in a half."""
    codes = rows["document"].cat.codes.to_numpy()
    return rows[half_of(len(rows["document"].cat.categories), half)[codes]].reset_index(drop=True)
