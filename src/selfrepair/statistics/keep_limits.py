"""Chooses from which direct effects on tokens are kept: those of the filters, on any resampling of the documents.

A filter that takes the share f of the tokens takes, on a resampled corpus, tokens that it did not take on the corpus
itself. None of them lies beyond the weakest document: let q be the smallest, over documents d of n_d tokens, of the
ceil(f n_d)-th largest effect of d. At least f n_d tokens of every document reach q, so at least `sum_d w_d f n_d`
copies do whatever the weights w_d, and the filter's threshold is q or more. With all tokens from q on, the bootstrap is
exact.

Where every kept token costs an ablated run of its own, as many are kept as almost all replicates want: their number
beyond a limit, less the filter's share of all tokens, is a sum over documents, whose spread the corpus shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from selfrepair.statistics.filters import Filter, choosing_kinds

MARGIN = 2  # times the filter's share that is always kept
SPREADS = 3  # standard deviations over resamplings that are kept where kept tokens cost; 1 replicate in 700 is short
EXACT = 1024  # tokens of a head beyond its filter's weakest document that are kept at most: all tokens of small corpora


Limits = Mapping[str, npt.NDArray[np.floating]]
"""Direct effects from which on tokens are kept, by kind of filter, each [layer, head]."""


def keep_thresholds(
    filters: Sequence[Filter], direct_effects: np.ndarray, documents: np.ndarray, spreads: float | None = None
) -> Limits:
    """Thresholds that keep twice the share of the widest filter of each kind, and more where that is needed for an
    exact bootstrap and is no more than `EXACT` tokens of a head.

    Args:
        filters: the run's filters; kinds that are not among them keep nothing.
        direct_effects: clean direct effects of all scored tokens, [layer, head, token], centred logits.
        documents: document of each of these tokens, [token].
        spreads: where every kept token costs, how many standard deviations over resamplings of all documents are kept
            beside the filter's own tokens, if that is less than twice the share; see `spreads_kept`.
    """
    if spreads is None:
        return {filter_.kind: _limit(filter_, direct_effects, documents) for filter_ in widest(filters)}
    return {filter_.kind: _sparing_limit(filter_, direct_effects, documents, spreads) for filter_ in widest(filters)}


def spreads_kept(documents: int, fewest: int) -> float:
    """How many standard deviations are kept where each kept token costs, in those over resamplings of all documents.

    Of a run that may end after `fewest` of its documents, these have more or fewer of the tokens beyond a limit than
    their share, and resamplings of them vary as much again: both `sqrt(documents / fewest)` times as much.

    Args:
        documents: of the corpus.
        fewest: documents that the run may end after.
    """
    return SPREADS if fewest >= documents else SPREADS * math.sqrt(2 * documents / fewest)


def widest(filters: Sequence[Filter]) -> list[Filter]:
    """The filter with the largest share of each kind that chooses tokens."""
    kinds = choosing_kinds(filters)
    return [
        max((filter_ for filter_ in filters if filter_.kind == kind), key=lambda filter_: filter_.fraction)
        for kind in kinds
    ]


def _most(filter_: Filter, tokens: int) -> int:
    """How many tokens of a head `MARGIN` keeps."""
    return min(max(1, int(MARGIN * filter_.fraction * tokens)), tokens)


def _sparing_limit(
    filter_: Filter, effects: np.ndarray, documents: np.ndarray, spreads: float
) -> npt.NDArray[np.floating]:
    """The direct effect from which on tokens are kept where each costs, [layer, head]."""
    tokens = effects.shape[-1]
    most, numbers = _most(filter_, tokens), np.unique(documents, return_inverse=True)[1]
    wanted = filter_.fraction * np.bincount(numbers)
    limits = np.empty(effects.shape[:2], effects.dtype)
    for head in np.ndindex(*limits.shape):
        scores = filter_.score(effects[head])
        beyond = np.argpartition(scores, tokens - most)[tokens - most :]
        order = beyond[np.argsort(-scores[beyond], kind="stable")]
        surplus = np.bincount(numbers[order], minlength=len(wanted)) - wanted
        spread = np.sqrt(np.sum((surplus - surplus.mean()) ** 2))
        kept = min(most, filter_.tokens_kept(tokens) + int(np.ceil(spreads * spread)))
        limits[head] = effects[head][order[kept - 1]]
    return limits


def _limit(filter_: Filter, effects: np.ndarray, documents: np.ndarray) -> npt.NDArray[np.floating]:
    """The direct effect from which on tokens are kept for a filter, [layer, head]."""
    tokens = effects.shape[-1]
    kept = _most(filter_, tokens)
    limit = filter_.limits(effects, kept)
    if kept >= EXACT:
        return limit
    farthest = filter_.score(filter_.limits(effects, min(EXACT, tokens)))
    needed = np.maximum(_weakest_document(filter_.score(effects), documents, filter_.fraction), farthest)
    return np.asarray(filter_.score(np.minimum(filter_.score(limit), needed)))


def _weakest_document(scores: np.ndarray, documents: np.ndarray, fraction: float) -> npt.NDArray[np.floating]:
    """The smallest, over documents, of the score that a share of the document's own tokens reach, [layer, head]."""
    weakest = np.full(scores.shape[:2], np.inf, scores.dtype)
    for document in np.unique(documents):
        own = scores[..., documents == document]
        rank = own.shape[-1] - math.ceil(fraction * own.shape[-1])
        weakest = np.minimum(weakest, np.partition(own, rank, axis=-1)[..., rank])
    return weakest


def near_limits(filters: Sequence[Filter], kept: Limits, shape: tuple[int, int]) -> npt.NDArray[np.floating]:
    """The limit down to which all tokens beyond each filter's threshold were kept, [filter, layer, head]; NaN for none.

    Args:
        filters: the run's filters.
        kept: result of `keep_thresholds`.
        shape: [layer, head].
    """
    nothing = np.full(shape, np.nan)
    return np.stack([kept.get(filter_.kind, nothing) for filter_ in filters])
