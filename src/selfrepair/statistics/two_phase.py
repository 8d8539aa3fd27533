"""Sums estimated in two phases: a cheap surrogate on all documents, the exact effect on a random part of them.

For the tokens F of a filter and a feature x with surrogate s,

    mean(x) = mean of s over F, all documents  +  mean of x - s over F, the documents of the exact part

which is right whatever the surrogate is: in the mean over random parts its errors cancel, and a poor surrogate only
makes the second term vary. Times the number of tokens in F this is an estimated sum, of which all estimators are
functions. The count and whatever the surrogate has exactly (direct effects, what is lost) have no second term.

Both terms are sums over tokens, so the bootstrap treats them like any feature: documents are drawn with replacement
from all, those of the part carry their differences with them, and the filter is applied again. Since the part is a
random one, a document's surrogate, its differences and whether it is in the part are one draw from the same
distribution, and the replicates' spread has the variances of both phases and their covariance (Sarndal, Swensson and
Wretman, Model Assisted Survey Sampling (1992), ch. 9, for the estimator; the ratio to the part's tokens makes the
random size of a replicate's part harmless).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from selfrepair.statistics.bootstrap import FilteredReplicates, TokenFeatures, effective_documents
from selfrepair.statistics.features import FEATURES, INDEX, Array

FEWEST_EXACT = 2  # documents of the part: of fewer nothing is known about how much they differ, so there is no error
PART = 2 * len(FEATURES)  # the column that counts tokens of the part, behind features and differences
_MEANS = ("total_effect", "self_repair")
_KNOWN = ("direct_effect", "ablated_direct_effect")  # no forward of the ablated model is needed for these
_COUNTED = ("repaired", "over_repaired", "made_worse", "sigma_above_one", "ratio_defined")
_SIZES = tuple(name for name in FEATURES if name.startswith("absolute_") or name.endswith("_squared"))


class TwoPhaseFeatures:
    """Features of tokens from both phases, made when asked for.

    Args:
        surrogate: features by the surrogate, of tokens of all documents.
        exact: exact features, of tokens of the part.
        match: the place of each of the surrogate's tokens among the exact ones [token]; -1 for one that is not there.
    """

    def __init__(self, surrogate: TokenFeatures, exact: TokenFeatures, match: np.ndarray) -> None:
        self._surrogate, self._exact, self._match = surrogate, exact, match

    def __getitem__(self, tokens: np.ndarray, /) -> Array:
        """[token, features, differences (0 outside of the part), whether it is in the part]."""
        cheap, match = self._surrogate[tokens], self._match[tokens]
        there = match >= 0
        table = np.zeros((len(tokens), PART + 1))
        table[:, : len(FEATURES)] = cheap
        table[there, len(FEATURES) : PART] = self._exact[match[there]] - cheap[there]
        table[:, PART] = there
        return table


class Estimated(NamedTuple):
    """Estimated sums of a head's features under one filter.

    Args:
        sums: [replicate, feature]; the first is the corpus itself.
        documents: documents that have tokens in the filter.
        effective: what both phases' documents amount to; NaN where the part has fewer than two such, so that there is
            no interval.
        short: share of the replicates whose filter wanted more tokens than were kept.
        effective_of_known: what the documents amount to for direct effects, to whose error the part adds nothing if the
            surrogate has them exactly.
    """

    sums: Array
    documents: int
    effective: float
    short: float
    effective_of_known: float


class Phase(NamedTuple):
    """One phase's share in a number.

    Args:
        documents: effective documents that it comes from, two at least.
        variance: its variance over replicates.
    """

    documents: float
    variance: float


def estimated(found: FilteredReplicates, in_part: np.ndarray) -> Estimated:
    """Estimated sums from those of `TwoPhaseFeatures`.

    Args:
        found: replicates of sums of its columns.
        in_part: which documents are in the part [document].
    """
    sums = estimated_sums(found.sums)
    part = np.where(in_part, found.tokens, 0)
    documents, effective = found.documents, found.effective
    if np.count_nonzero(part) < FEWEST_EXACT:
        return Estimated(sums, documents, np.nan, found.short, np.nan)
    of_part = float(effective_documents(part))
    together, known = (_fewest_together(found.sums[1:], effective, of_part, names) for names in (_MEANS, _KNOWN))
    return Estimated(sums, documents, together, found.short, known)


def estimated_over_all(both: np.ndarray, tokens: np.ndarray, in_part: np.ndarray) -> tuple[Array, Array, Array]:
    """Estimated sums over all tokens [replicate, ..., feature], and what their documents amount to, for effects of
    ablation and for direct effects [...] (NaN where there is no interval).

    Args:
        both: sums of both phases [replicate, ..., column], the first replicate of which is the corpus itself.
        tokens: scored tokens [document, ...].
        in_part: those that are measured exactly [document, ...].
    """
    sums, cells = estimated_sums(both), tokens.shape[1:]
    effective, known = np.full(cells, np.nan), np.full(cells, np.nan)
    for cell in np.ndindex(*cells):
        part = in_part[(slice(None), *cell)]
        if np.count_nonzero(part) >= FEWEST_EXACT:
            every = float(effective_documents(tokens[(slice(None), *cell)]))
            of_part = float(effective_documents(part))
            replicates = both[(slice(1, None), *cell)]
            effective[cell] = _fewest_together(replicates, every, of_part, _MEANS)
            known[cell] = _fewest_together(replicates, every, of_part, _KNOWN)
    return sums, effective, known


def joined_phases(surrogate: Array, exact: Array) -> Array:
    """Sums of both phases [document, ..., column] from features [document, ..., feature] of the same tokens by a
    surrogate and measured exactly; cells whose tokens were not all measured count as outside of the part."""
    count = INDEX["count"]
    there = (exact[..., count] == surrogate[..., count])[..., None]
    difference = np.where(there, exact - surrogate, 0.0)
    return np.concatenate([surrogate, difference, np.where(there, exact[..., count, None], 0.0)], -1)


def estimated_sums(both: np.ndarray) -> Array:
    """Estimated sums [..., feature] from sums of both phases [replicate, ..., column], the first replicate of which is
    the corpus itself; the first phase alone where the part has no token."""
    number = len(FEATURES)
    count, in_part = both[..., INDEX["count"]], both[..., PART]
    factor = np.where(in_part > 0, count / np.where(in_part > 0, in_part, 1), 0.0)
    sums: Array = both[..., :number] + factor[..., None] * both[..., number:PART]
    sums[:1] = possible_sums(sums[:1])  # not the others: their spread would be too small
    return sums


def possible_sums(sums: Array) -> Array:
    """The nearest sums that tokens can have: a difference added to a small sum may push it below zero, or numbers of
    tokens beyond their count, and a squared correlation beyond 1."""
    count = sums[..., INDEX["count"]]
    for name in _COUNTED:
        sums[..., INDEX[name]] = np.clip(sums[..., INDEX[name]], 0, count)
    for name in _SIZES:
        sums[..., INDEX[name]] = np.maximum(sums[..., INDEX[name]], 0)
    lost, total, squared, product = (
        sums[..., INDEX[name]] for name in ("lost", "total_effect", "lost_squared", "lost_times_total_effect")
    )
    some = np.where(count > 0, count, 1)
    spread = squared - lost**2 / some
    least = total**2 / some + (product - lost * total / some) ** 2 / np.where(spread > 0, spread, np.inf)
    sums[..., INDEX["total_effect_squared"]] = np.maximum(sums[..., INDEX["total_effect_squared"]], least)
    return sums


def _fewest_together(replicates: Array, effective: float, of_part: float, names: Sequence[str]) -> float:
    """What both phases' documents amount to for means of these features, whichever owes more to the part (a surrogate
    may be good at one and bad at the other)."""
    number, count, in_part = len(FEATURES), replicates[:, INDEX["count"]], replicates[:, PART]
    every, part = max(effective, 2.0), max(of_part, 2.0)
    together = []
    for name in names:
        place = INDEX[name]
        with np.errstate(divide="ignore", invalid="ignore"):
            cheap, left = replicates[:, place] / count, replicates[:, number + place] / in_part
        phases = Phase(every, float(np.nanvar(cheap))), Phase(part, float(np.nanvar(left)))
        together.append(effective_together(*phases))
    return min(together)


def effective_together(*phases: Phase) -> float:
    """Effective documents of a sum of independent numbers: Satterthwaite's degrees of freedom (Biometrics Bulletin 2
    (1946) 110), and one more."""
    below = sum(phase.variance**2 / (phase.documents - 1) for phase in phases)
    if not below > 0:
        return max(phase.documents for phase in phases)
    return 1 + sum(phase.variance for phase in phases) ** 2 / below
