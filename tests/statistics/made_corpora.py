"""Corpora whose tokens are correlated within documents of unequal size, with known answers."""

import numpy as np
from scipy.stats import norm

from selfrepair.statistics.accumulate import QUANTITIES
from selfrepair.statistics.bootstrap import (
    bootstrap_all,
    bootstrap_filtered,
    document_weights,
    effective_documents,
)
from selfrepair.statistics.features import FEATURES, INDEX

COLUMNS = ("count", "direct_effect", "lost", "self_repair")


def quantities(rng, *shape):
    """Made-up effects of tokens whose ledger closes, float32 [...]."""
    made = {name: rng.normal(size=shape).astype(np.float32) for name in QUANTITIES}
    made["self_repair"] = sum(made[f"repair_{line}"] for line in ("heads", "mlps", "mixers", "post_norms", "norm"))
    made["total_effect"] = made["self_repair"] + made["ablated_direct_effect"] - made["direct_effect"]
    made["sigma_ratio"] = 1 + 0.1 * made["sigma_ratio"]
    return made


def corpus(rng, documents, correlation, tokens=100):
    """One head on one corpus: sizes [document], document [token], effects [token] and rows [token, column].

    Direct effects are standard normal with this correlation within a document; the repaired fraction differs from
    document to document about 0.3 and grows with the effect. The columns are `COLUMNS`, the features tests look at.
    """
    sizes = np.maximum((tokens * np.exp(0.6 * rng.normal(size=documents) - 0.18)).astype(int), 8)
    document = np.repeat(np.arange(documents), sizes)
    own, shared = np.sqrt(1 - correlation), np.sqrt(correlation)
    effect = shared * rng.normal(size=documents)[document] + own * rng.normal(size=len(document))
    lost = effect + 0.1 * rng.normal(size=len(document))
    noise = shared * rng.normal(size=documents)[document] + own * rng.normal(size=len(document))
    repair = (0.3 + 0.2 * rng.normal(size=documents)[document]) * lost + 0.05 * effect**2 + 0.5 * noise
    rows = np.stack([np.ones(len(document)), effect, lost, repair], axis=1)
    return sizes, document, effect, rows


def spread(sums):
    """Sums of the features of `corpus` among all features, [..., feature]."""
    found = np.zeros((*sums.shape[:-1], len(FEATURES)))
    found[..., [INDEX[name] for name in COLUMNS]] = sums
    return found


def truth(fraction):
    """True `direct_effect`, `self_repair` and `repaired_fraction` of the top `fraction` of an endless corpus."""
    if fraction == 1:
        return {"direct_effect": 0.0, "self_repair": 0.05}
    limit = norm.isf(fraction)
    first = norm.pdf(limit) / fraction
    second = 1 + limit * first
    repair = 0.3 * first + 0.05 * second
    return {"direct_effect": first, "self_repair": repair, "repaired_fraction": repair / first}


def replicated(rng, documents, correlation, fraction, replicates=300, seed=0):
    """Sums, replicates, documents and effective documents of one corpus; and the tokens in the filter."""
    sizes, document, effect, rows = corpus(rng, documents, correlation)
    weights = document_weights(documents, replicates, seed)
    if fraction == 1:
        sums = np.add.reduceat(rows, np.append(0, np.cumsum(sizes)[:-1]))
        drawn = spread(bootstrap_all(sums, weights))
        return spread(rows.sum(0)), drawn, documents, effective_documents(sizes), rows
    tokens = int(fraction * len(effect))
    kept = np.argpartition(-effect, 2 * tokens)[: 2 * tokens]
    kept = kept[np.argsort(-effect[kept])]
    found = bootstrap_filtered(effect[kept], rows[kept], document[kept], sizes, fraction, weights)
    top = rows[kept[:tokens]]
    return spread(top.sum(0)), spread(found.sums), found.documents, found.effective, top
