"""Splits the scatter into documents, tokens and donors, and finds how many donors are needed.

Nested model of an effect with resampled donors: `x_dik = mu + document_d + token_di + donor_dik`, document d, token
i, donor k of K. A run stores the mean over donors of each token and the variance over its donors. Method of moments
for unequal groups (Searle, Casella and McCulloch, Variance Components (1992), 3.6): with N tokens in D documents,

    donor    = mean over tokens of the variance over donors
    within   = (sum x^2 - sum_d S_d^2 / n_d) / (N - D)                  expects token + donor / K
    between  = (sum_d S_d^2 / n_d - S^2 / N) / (D - 1)                  expects within + n0 document
    n0       = (N - sum_d n_d^2 / N) / (D - 1)

and parts that come out negative are 0. Donors are taken as independent from token to token. A donor window serves a
whole window, so what its tokens have in common is booked under documents: there the numbers here are too small for
more donors, never too much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from selfrepair.statistics.features import Array

DONOR_SHARE = 0.1  # of the variance of a mean: donors that make up no more no longer matter


@dataclass(frozen=True)
class VarianceSplit:
    """Variance parts of a per-token effect, each [...], squared centred logits.

    Args:
        document: variance of the documents' own levels.
        token: variance of tokens about their document's level, donors averaged out.
        donor: variance over the donors of one token; NaN if there was one donor, and then so is `token`.
    """

    document: Array
    token: Array
    donor: Array


def variance_split(
    tokens: np.ndarray, sums: np.ndarray, squares: np.ndarray, donor_variances: np.ndarray, donors: int
) -> VarianceSplit:
    """Variance parts from sums per document.

    Args:
        tokens: n_d, [document, ...].
        sums: sums of x (a token's mean over donors), [document, ...].
        squares: sums of x^2, [document, ...].
        donor_variances: sums of the variance over a token's donors (K - 1 below the line), [document, ...].
        donors: K.

    Returns:
        The parts, [...]; NaN where there are too few documents or tokens.
    """
    n, s = np.asarray(tokens, np.float64), np.asarray(sums, np.float64)
    total, documents = n.sum(axis=0), np.count_nonzero(n, axis=0)
    levels = (s**2 / np.where(n == 0, 1, n)).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        within = (np.sum(squares, axis=0) - levels) / np.where(total > documents, total - documents, np.nan)
        freedom = np.where(documents > 1, documents - 1, np.nan)
        size = (total - (n**2).sum(axis=0) / total) / freedom
        document = ((levels - s.sum(axis=0) ** 2 / total) / freedom - within) / size
        donor = np.asarray(np.sum(donor_variances, axis=0) / total if donors > 1 else np.full(total.shape, np.nan))
    return VarianceSplit(np.maximum(document, 0), np.maximum(within - donor / donors, 0), donor)


def donors_needed(
    split: VarianceSplit, tokens: np.ndarray, *, share: float = DONOR_SHARE, target: float | None = None
) -> Array:
    """The smallest number of donors that the mean over all tokens needs.

    Args:
        split: the parts, [...].
        tokens: [document, ...], tokens of each document of the run that is being planned.
        share: donors no longer matter once they make up at most this share of the variance of the mean.
        target: if given, the standard error to reach instead, centred logits.

    Returns:
        Donors per token, [...], at least 1; inf where no number of donors reaches the target, NaN where unknown.

    Raises:
        ValueError: `share` outside (0, 1), or a target that is not positive.
    """
    if not 0 < share < 1 or (target is not None and target <= 0):
        raise ValueError(f"share {share} must lie between 0 and 1, and the target {target} be positive")
    documents, each = _shares(tokens)
    others = split.document * documents + split.token * each
    room = others * share / (1 - share) if target is None else target**2 - others
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.ceil(split.donor * each / room * (1 - 1e-12))
    needed = np.where((room <= 0) & (split.donor > 0), np.inf, needed)
    return np.where(np.isnan(split.donor), np.nan, np.maximum(np.nan_to_num(needed, nan=1.0, posinf=np.inf), 1))


def _shares(tokens: np.ndarray) -> tuple[Array, Array]:
    """Factors of the document part and of the parts per token in the variance of the mean."""
    n = np.asarray(tokens, np.float64)
    total = n.sum(axis=0)
    total = np.where(total == 0, np.nan, total)
    return np.asarray((n**2).sum(axis=0) / total**2), np.asarray(1 / total)
