"""Means and ratios with document-level errors.

Tokens of one document are not independent, so documents, not tokens, are the units that vary. Both kinds of
number are ratios of sums over documents, `R = sum_d Y_d / sum_d X_d`; their error is that of the linearised
ratio estimator, `sqrt(D / (D - 1) * sum_d (Y_d - R X_d)^2) / |sum_d X_d|`, and intervals are Student's t with
D - 1 degrees of freedom, D counting the documents that have tokens there. Filter thresholds are held fixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from selfrepair.statistics.accumulate import DocumentSums

Array = npt.NDArray[np.float64]
LEVEL = 0.95
SHARES = {
    "repaired_fraction": "self_repair",
    "fraction_heads": "repair_heads",
    "fraction_mlps": "repair_mlps",
    "fraction_post_norms": "repair_post_norms",
    "fraction_norm": "repair_norm",
}


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


def ratio(
    numerators: np.ndarray, denominators: np.ndarray, present: npt.NDArray[np.bool_], documents_axis: int = 0
) -> Estimate:
    """Ratio of sums over documents.

    Args:
        numerators: [document, ...], each document's sum.
        denominators: [document, ...], broadcastable against `numerators`.
        present: [document, ...], documents that have tokens here; others must be zero in both.
        documents_axis: which axis is the document axis.

    Returns:
        The ratio over the remaining axes; where the denominators sum to zero, NaN.
    """
    documents = present.sum(axis=documents_axis)
    below = np.asarray(denominators, np.float64).sum(axis=documents_axis, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.asarray(numerators, np.float64).sum(axis=documents_axis, keepdims=True) / below
        value = np.where(below == 0, np.nan, value)
        spread = ((numerators - value * denominators) ** 2).sum(axis=documents_axis)
        several = np.where(documents > 1, documents, np.nan)
        error = np.sqrt(several / (several - 1) * spread) / np.abs(below.squeeze(documents_axis))
    value = value.squeeze(documents_axis)
    return with_interval(value, error, np.broadcast_to(documents, value.shape))


def with_interval(value: np.ndarray, error: np.ndarray, documents: np.ndarray) -> Estimate:
    """An estimate with Student's 95% interval, `documents - 1` degrees of freedom; NaN below two documents."""
    freedom = np.where(documents > 1, documents - 1.0, np.nan)
    half = error * student.ppf((1 + LEVEL) / 2, freedom)
    return Estimate(value, np.where(documents > 1, error, np.nan), value - half, value + half, documents)


def mean(sums: np.ndarray, counts: np.ndarray) -> Estimate:
    """Mean over tokens, `sum_d S_d / sum_d n_d`, from sums and counts [document, ...]."""
    return ratio(sums, counts, counts > 0)


def lost_direct_effect(sums: DocumentSums) -> Estimate:
    """Mean of clean minus ablated direct effect, [filter, layer, head], centred logits."""
    return mean(_lost(sums), sums.counts)


def repaired_fraction(sums: DocumentSums) -> Estimate:
    """Ratio of sums, `sum SR / sum (DE - ablated DE)`, [filter, layer, head], no unit.

    A ratio over a small denominator means little: read it beside `lost_direct_effect` and its error.
    """
    return ratio(sums.sums["self_repair"], _lost(sums), sums.counts > 0)


def components(sums: DocumentSums, name: str) -> Estimate:
    """Mean of one set of component lines, [filter, layer, head, by_layer(, by_head)], centred logits.

    Worked off one ablated layer at a time, because residuals per document take as much room as the sums.
    """
    lines = sums.component_sums[name]
    extra = (None,) * (lines.ndim - sums.counts.ndim)
    by_layer = [mean(lines[:, :, layer], sums.counts[:, :, layer, :, *extra]) for layer in range(sums.shape[0])]
    fields = ("value", "standard_error", "low", "high", "documents")
    return Estimate(*(np.stack([getattr(one, field) for one in by_layer], axis=1) for field in fields))


def pooled(sums: DocumentSums) -> dict[str, Estimate]:
    """The whole model's totals, all heads together, [filter].

    Returns:
        `lost_direct_effect` and `self_repair`: mean over (head, token) pairs, centred logits;
        `repaired_fraction` = sum SR / sum (DE - ablated DE) and its parts `fraction_heads`, `fraction_mlps`,
        `fraction_post_norms`, `fraction_norm`: ratios of sums, no unit.
    """
    counts = sums.counts.sum(axis=(2, 3))
    lost = _lost(sums).sum(axis=(2, 3))
    totals = {"lost_direct_effect": mean(lost, counts)}
    totals["self_repair"] = mean(sums.sums["self_repair"].sum(axis=(2, 3)), counts)
    for share, name in SHARES.items():
        totals[share] = ratio(sums.sums[name].sum(axis=(2, 3)), lost, counts > 0)
    return totals


def _lost(sums: DocumentSums) -> Array:
    return sums.sums["direct_effect"] - sums.sums["ablated_direct_effect"]
