"""The slow obvious way to errors of means and ratios: linearised over documents, from every document's sums.

Both are ratios of sums over documents, `R = sum_d Y_d / sum_d X_d`, with the error of the linearised ratio estimator,
`sqrt(D / (D - 1) * sum_d (Y_d - R X_d)^2) / |sum_d X_d|`, D counting the documents that have tokens there.
"""

import numpy as np
from scipy.stats import t as student

from selfrepair.statistics.estimates import LEVEL, Estimate


def ratio(numerators, denominators, present):
    """Ratio of sums over documents, all [document, ...]; where the denominators sum to zero, NaN."""
    documents = present.sum(axis=0)
    below = np.asarray(denominators, np.float64).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(below == 0, np.nan, np.asarray(numerators, np.float64).sum(axis=0) / below)
        spread = ((numerators - value * denominators) ** 2).sum(axis=0)
        several = np.where(documents > 1, documents, np.nan)
        error = np.sqrt(several / (several - 1) * spread) / np.abs(below)
    return with_interval(value, error, np.broadcast_to(documents, value.shape))


def with_interval(value, error, documents):
    """An estimate with Student's 95% interval, `documents - 1` degrees of freedom; NaN below two documents."""
    freedom = np.where(documents > 1, documents - 1.0, np.nan)
    half = error * student.ppf((1 + LEVEL) / 2, freedom)
    return Estimate(value, np.where(documents > 1, error, np.nan), value - half, value + half, documents)


def mean(sums, counts):
    """Mean over tokens, from sums and counts [document, ...]."""
    return ratio(sums, counts, counts > 0)
