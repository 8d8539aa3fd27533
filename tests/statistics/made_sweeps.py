"""Small made-up sweeps, and the slow obvious way to sum them."""

from dataclasses import dataclass

import numpy as np

from selfrepair.statistics.accumulate import QUANTITIES, TokenEffects
from selfrepair.statistics.filters import DEFAULT_FILTERS, Filter, all_thresholds


@dataclass
class Sweep:
    """Everything a whole sweep would hand over, held at once: [layer, head, window, position]."""

    quantities: dict[str, np.ndarray]
    by_attention: np.ndarray
    by_mlp: np.ndarray
    by_head: np.ndarray
    scored: np.ndarray
    documents: np.ndarray
    tokens: np.ndarray
    filters: tuple[Filter, ...]

    @property
    def shape(self):
        return self.quantities["direct_effect"].shape[:2]

    @property
    def survey(self):
        return self.quantities["direct_effect"][:, :, self.scored]

    @property
    def thresholds(self):
        return all_thresholds(self.filters, self.survey)

    def chunk(self, layer, heads, windows):
        heads, windows = np.asarray(heads), np.asarray(windows)
        place = np.ix_([layer], heads, windows)
        return TokenEffects(
            layer=layer,
            heads=heads,
            windows=windows,
            quantities={name: values[place][0] for name, values in self.quantities.items()},
            by_attention=self.by_attention[place][0],
            by_mlp=self.by_mlp[place][0],
            by_head=self.by_head[place][0],
        )


def sweep(seed=0, layers=2, heads=3, windows=5, positions=6, documents=4, filters=None):
    rng = np.random.default_rng(seed)
    shape = (layers, heads, windows, positions)
    quantities = {name: rng.normal(size=shape).astype(np.float32) for name in QUANTITIES}
    scored = rng.random((windows, positions)) < 0.8
    scored[0, 1] = True
    quantities["self_repair"][:, :, ~scored] = np.nan  # what padding holds must not matter
    lines = rng.normal(size=(*shape, layers, heads)).astype(np.float32)
    return Sweep(
        quantities,
        by_attention=lines.sum(-1),
        by_mlp=rng.normal(size=(*shape, layers)).astype(np.float32),
        by_head=lines,
        scored=scored,
        documents=np.sort(rng.integers(0, documents, (windows, positions)), axis=1),
        tokens=rng.integers(0, 1000, (windows, positions + 1)),
        filters=filters or (Filter("all"), Filter("top", 0.2), Filter("bottom", 0.2)),
    )


def obvious_sums(made, chunks):
    """Counts and sums of lines per (document, filter, layer, head), one token at a time."""
    counts, lines = {}, {}
    for layer, heads, windows in chunks:
        for head in heads:
            effects = made.survey[layer, head]
            for kind, one in enumerate(made.filters):
                k = max(1, int(one.fraction * len(effects)))
                for window in windows:
                    for position in range(made.scored.shape[1]):
                        if not made.scored[window, position]:
                            continue
                        effect = made.quantities["direct_effect"][layer, head, window, position]
                        if one.kind == "top" and effect < np.sort(effects)[-k]:
                            continue
                        if one.kind == "bottom" and effect > np.sort(effects)[k - 1]:
                            continue
                        cell = (int(made.documents[window, position]), kind, layer, head)
                        counts[cell] = counts.get(cell, 0) + 1
                        mine = made.by_head[layer, head, window, position].astype(float)
                        lines[cell] = lines.get(cell, 0.0) + mine
    return counts, lines


def everything(made):
    layers, heads = made.shape
    return [(layer, list(range(heads)), list(range(len(made.scored)))) for layer in range(layers)]


__all__ = ["DEFAULT_FILTERS", "Sweep", "everything", "obvious_sums", "sweep"]
