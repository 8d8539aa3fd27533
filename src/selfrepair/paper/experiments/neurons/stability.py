"""How consistently neurons repair over ranks and documents: numbers with intervals over documents."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from selfrepair.paper.numbers.document_halves import FIRST as FIRST_HALF
from selfrepair.paper.numbers.document_halves import SECOND as SECOND_HALF
from selfrepair.paper.numbers.document_halves import half_of
from selfrepair.paper.numbers.over_documents import REPLICATES, Array, Number, from_replicates
from selfrepair.statistics.bootstrap import document_weights

FIRST, MIDDLE = 1000 / 11008, (2000 / 11008, 9000 / 11008)  # ranks that Appendix C speaks of, as shares of all neurons
CHANGE = {
    "first ranks": f"of the first {FIRST:.1%} of ranks",
    "middle ranks": f"of ranks from {MIDDLE[0]:.1%} to {MIDDLE[1]:.1%}",
}


def carried(absolute: np.ndarray) -> dict[str, np.ndarray]:
    """Shares of all absolute change that the first and the middle ranks carry, [token] each, by `CHANGE`.

    Args:
        absolute: absolute changes of neurons in the order of their signed change, largest first, [token, neuron].
    """
    curve = np.column_stack([np.zeros(len(absolute)), np.cumsum(absolute, axis=1)])
    whole = np.where(curve[:, -1] == 0, 1.0, curve[:, -1])

    def up_to(share: float) -> np.ndarray:
        return np.asarray(curve[:, round(share * absolute.shape[1])] / whole)

    return {"first ranks": up_to(FIRST), "middle ranks": up_to(MIDDLE[1]) - up_to(MIDDLE[0])}


def ranks_below_zero(name: str, effects: np.ndarray, document: np.ndarray) -> Number:
    """Share of ranks whose median over tokens is below zero.

    Args:
        name: the number's name.
        effects: clean direct effects of the neurons at those ranks, [token, rank].
        document: [token].
    """
    _, document_index = np.unique(document, return_inverse=True)
    counts = np.bincount(document_index)
    weights = document_weights(len(counts), REPLICATES)

    def share(copies: np.ndarray) -> float:
        return float((np.median(np.repeat(effects, copies, axis=0), axis=0) < 0).mean())

    replicates = np.array(
        [share(copies[document_index]) if copies[document_index].any() else np.nan for copies in weights]
    )
    return from_replicates(name, share(np.ones(len(document_index), int)), replicates, counts, scale="share")


def overlap_numbers(name: str, top: np.ndarray, document: np.ndarray, neurons: int) -> list[Number]:
    """How often the most frequent neuron repairs, and how much two tokens' top neurons overlap (section 4.2.2).

    Args:
        name: start of the numbers' names.
        top: the neurons that repair most on each token, [token, 10].
        document: [token].
        neurons: number of neurons.
    """
    _, document_index = np.unique(document, return_inverse=True)
    tokens = np.bincount(document_index)
    cells = np.repeat(document_index, top.shape[1]), top.ravel()
    members = csr_matrix((np.ones(top.size), cells), shape=(len(tokens), neurons))
    replicates = np.array(
        [_steadiness(members, tokens, weights, top.shape[1]) for weights in document_weights(len(tokens), REPLICATES)]
    )
    values = _steadiness(members, tokens, np.ones(len(tokens)), top.shape[1])
    names = {
        "most frequent neuron in a token's top ten, share of tokens": "share",
        "neuron most frequent in the other half of documents, share of tokens": "share",
        "top tens' overlap within a document": "plain",
        "top tens' overlap between documents": "plain",
        "top tens' overlap within less between documents": "plain",
    }
    return [
        from_replicates(f"{name}: {label}", float(value), replicates[:, column], tokens, scale=scale)  # type: ignore[arg-type]
        for column, ((label, scale), value) in enumerate(zip(names.items(), values, strict=True))
    ]


def _steadiness(members: csr_matrix, tokens: np.ndarray, weights: np.ndarray, size: int) -> Array:
    """`max_n count_n / tokens`; the same of the neuron that is most frequent in the other half of the documents; mean
    overlap, as a share of the top neurons, of two tokens of one document, of two documents, and the first less the
    second.

    The maximum over thousands of neurons is too large where tokens are few: any neuron may be in one of ten tops.
    Chosen on one half of the documents and counted on the other, it is not.

    Copies of a document in a replicate are not two documents: pairs between them are left out.

    Args:
        members: tokens whose top neurons hold each neuron, [document, neuron].
        tokens: [document].
        weights: [document].
        size: number of top neurons of a token.
    """
    counts = members.T @ weights
    own = np.asarray(members.multiply(members).sum(1)).ravel()
    pairs_within = float(weights @ (tokens * (tokens - 1.0)))
    pairs_between = float((weights @ tokens) ** 2 - weights**2.0 @ tokens**2.0)
    within = float(weights @ (own - size * tokens)) / (size * pairs_within) if pairs_within else np.nan
    between = float(counts @ counts - weights**2.0 @ own) / (size * pairs_between) if pairs_between else np.nan
    apart = _chosen_apart(members, tokens, weights)
    return np.array([counts.max() / (weights @ tokens), apart, within, between, within - between])


def _chosen_apart(members: csr_matrix, tokens: np.ndarray, weights: np.ndarray) -> float:
    """Share of tokens whose top neurons hold the one that is most frequent in the half of documents they are not in;
    its mean where several are equally frequent. NaN where a half has no tokens."""
    halves = [half_of(len(tokens), half) * weights for half in (FIRST_HALF, SECOND_HALF)]
    counts = [members.T @ half_weights for half_weights in halves]
    if not all(half_weights @ tokens for half_weights in halves):
        return float("nan")
    held = sum(
        float(counts_here[counts_there == counts_there.max()].mean())
        for counts_here, counts_there in (counts, counts[::-1])
    )
    return held / float(weights @ tokens)
