"""What the numbers would be on an endless corpus."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from selfrepair.statistics.estimators import ESTIMATORS
from selfrepair.statistics.features import FEATURES, features
from simulation.corpora import BINS, GROUPS, SHARES, quantities

TOKENS, AT_ONCE = 1_000_000, 100_000


@cache
def truths(tails: str, group: int, share: float) -> dict[str, float]:
    """Every estimator for the heads of a group, over the tokens with the largest `share` of direct effects, and
    `curve 0` ... by bin of direct effect over all.

    From a large sample of tokens of as many documents, which is exact enough beside what 200 documents can tell;
    fractions are known.
    """
    one = GROUPS[group]
    limits = _quantiles(tails, group)
    sums, curve = np.zeros(len(FEATURES)), np.zeros((2, BINS))
    for found in _samples(tails, group):
        effect = found["direct_effect"]
        chosen = effect >= limits[share] if share < 1 else np.ones(effect.shape, bool)
        sums += features({name: values[chosen] for name, values in found.items()}).sum(0)
        bins = np.searchsorted(limits["bins"], effect, side="right")
        curve[0] += np.bincount(bins, found["self_repair"], BINS)
        curve[1] += np.bincount(bins, minlength=BINS)
    known = {name: float(estimator(sums)) for name, estimator in ESTIMATORS.items()}
    lost = 0.9 * (one.level if share == 1 else known["direct_effect"])
    known |= {line.replace("repair", "fraction"): part * one.repaired for line, part in SHARES.items()}
    known["fraction_mlps"] += one.besides / lost
    known |= dict.fromkeys(("repaired_fraction", "masking"), one.repaired + one.besides / lost)
    return known | {f"curve {place}": value for place, value in enumerate(curve[0] / curve[1])}


def _samples(tails: str, group: int) -> Iterator[dict[str, np.ndarray]]:
    rng = np.random.default_rng([7, group, len(tails)])
    for _ in range(TOKENS // AT_ONCE):
        found = quantities(rng, tails, GROUPS[group], 1, np.arange(AT_ONCE))
        yield {name: values[0] for name, values in found.items()}


@cache
def _quantiles(tails: str, group: int) -> dict[object, np.ndarray]:
    effects = np.concatenate([found["direct_effect"] for found in _samples(tails, group)])
    return {0.02: np.quantile(effects, 0.98), "bins": np.quantile(effects, np.arange(1, BINS) / BINS)}
