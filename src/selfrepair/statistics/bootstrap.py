"""A bootstrap that resamples documents and applies the filter again in each replicate.

Tokens of one document are not independent, so whole documents are drawn with replacement; and the threshold of a
filter such as the top 2% is itself estimated from the corpus, so it is found again in every replicate. Both are
exact from sums: a replicate is a set of integer weights w_d on documents (w_d copies of document d), its sums over
all tokens are `sum_d w_d S_d`, and its filtered sums need only tokens near or above the threshold, which the run
kept. Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 6; for clustered data Davison and Hinkley,
Bootstrap Methods and their Application (1997), 3.8.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

Array = npt.NDArray[np.float64]
Weights = npt.NDArray[np.int16]
BLOCK_CELLS = 2**18  # (replicate, token) pairs processed at once: 2 MB an array, which stays in cache
COARSE = 64  # steps of the first look for the threshold
CHUNK = 2**13  # tokens whose features are in memory at once


class TokenFeatures(Protocol):
    """Features of tokens: an array [token, feature], or what makes some tokens' features when asked for them."""

    def __getitem__(self, tokens: npt.NDArray[np.int64], /) -> Array:
        """Features [token, feature] of the tokens in these places."""
        ...


class FilteredReplicates(NamedTuple):
    """Replicates of a filtered sum.

    Args:
        sums: [replicate, feature].
        short: share of the replicates whose filter wanted more tokens than were kept; their sums are of all the kept
            tokens that they have, so they are not exact. Keep more tokens, or read more documents.
        tokens: tokens of each document in the filter, on the corpus itself [document].
    """

    sums: Array
    short: float
    tokens: npt.NDArray[np.int64]

    @property
    def documents(self) -> int:
        """Documents that have tokens in the filter, on the corpus itself."""
        return int(np.count_nonzero(self.tokens))

    @property
    def effective(self) -> float:
        """The same, as `effective_documents` counts them."""
        return float(effective_documents(self.tokens))

    @property
    def exact(self) -> bool:
        """Whether every replicate equals what the filter would have given on the resampled corpus."""
        return self.short == 0


def document_weights(documents: int, replicates: int, seed: int = 0) -> Weights:
    """How often each document is drawn in each replicate, int16 [replicate, document]; rows sum to `documents`.

    The same numbers for the same arguments; a smaller number of replicates gives the first of a larger one's.
    """
    draws = np.random.default_rng(seed)
    weights = np.empty((replicates, documents), np.int16)
    step = max(1, BLOCK_CELLS // max(1, documents))
    for start in range(0, replicates, step):
        block = weights[start : start + step]
        drawn = draws.integers(0, documents, block.shape) + documents * np.arange(len(block))[:, None]
        block[:] = np.bincount(drawn.reshape(-1), minlength=block.size).reshape(block.shape)
    return weights


def effective_documents(tokens: np.ndarray) -> Array:
    """How many documents of equal size would count as much, `(sum_d n_d)^2 / sum_d n_d^2`, from n [document, ...].

    A filter's tokens crowd into few documents, which is why intervals go by this number (see `intervals`) and not by
    that of the documents; 0 where there are no tokens.
    """
    tokens = np.asarray(tokens, np.float64)
    squares = (tokens**2).sum(axis=0)
    return np.asarray(tokens.sum(axis=0) ** 2 / np.where(squares == 0, 1, squares))


def bootstrap_all(document_sums: np.ndarray, weights: np.ndarray) -> Array:
    """Replicates of sums over all tokens of each document.

    Args:
        document_sums: [document, ..., feature].
        weights: [replicate, document], from `document_weights`.

    Returns:
        [replicate, ..., feature].
    """
    flat = np.asarray(document_sums, np.float64).reshape(len(document_sums), -1)
    return _weighted(weights, flat).reshape(len(weights), *document_sums.shape[1:])


def bootstrap_filtered(
    scores: np.ndarray,
    rows: TokenFeatures,
    document: np.ndarray,
    scored_per_document: np.ndarray,
    fraction: float,
    weights: np.ndarray,
) -> FilteredReplicates:
    """Replicates of one head's sums over the tokens with the largest scores, the filter applied again in each.

    Replicate b has `N_b = sum_d w_d n_d` scored tokens; its filter passes those whose score is at least the k-th
    largest, `k = max(1, int(fraction N_b))`, ties included: what `filters.Filter` does on the corpus in which each
    document stands w_d times.

    Args:
        scores: [token], `Filter.score` of the clean direct effects of the kept tokens, which are all those beyond some
            value.
        rows: features of the tokens, [token, feature].
        document: [token], index on the document axis.
        scored_per_document: [document], scored tokens of each document, kept or not.
        fraction: the filter's share.
        weights: [replicate, document], from `document_weights`.
    """
    rank = -np.asarray(scores)
    order = np.argsort(rank, kind="stable")
    rank, document = rank[order], document[order]
    after_ties = np.searchsorted(rank, rank, side="right")
    wanted = np.maximum(1, (fraction * (weights @ scored_per_document)).astype(np.int64))
    corpus = max(1, int(fraction * scored_per_document.sum()))
    passing = document[: after_ties[min(corpus, len(rank)) - 1]] if len(rank) else document
    inside = np.bincount(passing, minlength=weights.shape[1])
    first, last = _contested(weights, document, wanted, after_ties)
    sums = _weighted(weights, _per_document(rows, order[:first], document[:first], weights.shape[1]))
    wanted = wanted - weights @ np.bincount(document[:first], minlength=weights.shape[1])
    contested, document, after_ties = rows[order[first:last]], document[first:last], after_ties[first:last] - first
    short, step = 0, max(1, BLOCK_CELLS // max(1, len(document)))
    for start in range(0, len(weights), step):
        block = slice(start, start + step)
        drawn = weights[block][:, document]
        pass_here, missing = _passing(drawn, wanted[block], after_ties)
        sums[block] += csr_matrix((drawn * pass_here).astype(np.float64)) @ contested
        short += missing
    share = short / max(1, len(weights))
    return FilteredReplicates(sums, share, inside)


def _weighted(weights: np.ndarray, sums: Array) -> Array:
    """`weights @ sums`, [replicate, feature]; sparse, since dense products depend on threads in the last bit."""
    weighted: Array = csr_matrix(np.asarray(weights, np.float64)) @ sums
    return weighted


def _per_document(
    rows: TokenFeatures, tokens: npt.NDArray[np.int64], document: npt.NDArray[np.int64], documents: int
) -> Array:
    """Features summed over each document's tokens, [document, feature].

    Args:
        rows: features.
        tokens: [token], places in `rows`.
        document: [token], their documents.
        documents: number of documents.
    """
    total = np.zeros((documents, rows[tokens[:0]].shape[1]))
    for start in range(0, len(tokens), CHUNK):
        part = slice(start, start + CHUNK)
        places = (document[part], np.arange(len(tokens[part])))
        total += (
            csr_matrix((np.ones(len(tokens[part])), places), shape=(documents, len(tokens[part]))) @ rows[tokens[part]]
        )
    return total


def _contested(
    weights: np.ndarray, document: np.ndarray, wanted: np.ndarray, after_ties: np.ndarray
) -> tuple[int, int]:
    """Tokens before the first of these ranks pass in every replicate, those from the second on in none.

    Found from coarse steps of the cumulative weight, so that only the tokens between need to be looked at singly.
    """
    tokens, documents = len(document), weights.shape[1]
    steps = min(tokens, COARSE)
    edges = np.linspace(0, tokens, steps + 1).astype(np.int64)
    step = np.searchsorted(edges, np.arange(tokens), side="right") - 1
    table = np.bincount(step * documents + document, minlength=steps * documents).reshape(steps, documents)
    reached = np.cumsum(weights.astype(np.float64) @ table.T.astype(np.float64), axis=1)
    marginal = np.count_nonzero(reached < wanted[:, None], axis=1)
    if steps == 0:
        return 0, 0
    last = edges[min(int(marginal.max()) + 1, steps)]
    return int(edges[marginal.min()]), int(after_ties[last - 1])


def _passing(
    drawn: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64], after_ties: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.bool_], int]:
    """Which tokens (in the filter's order) pass in each replicate, and how many replicates lack tokens.

    Args:
        drawn: [replicate, token], copies of each token.
        wanted: [replicate], how many copies the filter takes.
        after_ties: [token], where the tokens of the same effect end.
    """
    marginal = np.count_nonzero(np.cumsum(drawn, axis=1) < wanted[:, None], axis=1)
    ends = np.append(after_ties, len(after_ties))[marginal]
    return np.arange(len(after_ties)) < ends[:, None], int(np.count_nonzero(marginal == len(after_ties)))
