"""Keeps tokens as rows: those of the filters, on any resampling of the documents, and a uniform sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selfrepair.statistics.accumulate import QUANTITIES, TokenEffects
from selfrepair.statistics.filters import Filter, choosing_kinds
from selfrepair.statistics.keep_limits import Limits, widest

SAMPLE = "sample"  # `kept_as` of rows that no filter keeps
_BLOCK = 1024  # windows whose hashes are computed together
LABEL = pa.dictionary(pa.int32(), pa.string())
TOKEN_SCHEMA = pa.schema(
    [
        ("layer", pa.int16()),
        ("head", pa.int16()),
        ("window", pa.int32()),
        ("position", pa.int32()),
        ("document", LABEL),
        ("token", pa.int32()),
        ("target", pa.int32()),
        *((name, pa.float32()) for name in QUANTITIES),
        ("kept_as", LABEL),
        ("in_sample", pa.bool_()),
    ]
)


def uniform_sample(scored: np.ndarray, size: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """The `size` scored tokens with the smallest seeded hashes of (window, position), as pairs [token, 2].

    The same tokens for every head, whatever the order of the sweep. Pairs are in order of window and position.
    """
    best = np.empty((0, 2), np.int64)
    hashes = np.empty(0, np.uint64)
    for start in range(0, len(scored), _BLOCK):  # hashes of a whole corpus at once would take many times its size
        window, position = np.nonzero(scored[start : start + _BLOCK])
        pairs = np.concatenate([best, np.stack([window + start, position], 1)])
        hashes = np.concatenate([hashes, token_hash(window + start, position, seed)])
        order = np.argsort(hashes, kind="stable")[:size]
        best, hashes = pairs[order], hashes[order]
    return best[np.lexsort(best.T[::-1])]


def in_sample(sample: np.ndarray, numbers: np.ndarray, positions: int) -> npt.NDArray[np.bool_]:
    """Which tokens of some windows are in a sample, [window, position].

    Args:
        sample: pairs from `uniform_sample`.
        numbers: [window], numbers of these windows in the corpus.
        positions: number of positions of a window.
    """
    row = {int(number): local for local, number in enumerate(numbers)}
    chosen = np.zeros((len(numbers), positions), bool)
    for window, position in sample[np.isin(sample[:, 0], numbers)].tolist():
        chosen[row[window], position] = True
    return chosen


class KeptTokens:
    """Collects the rows of `tokens.parquet`, chunk by chunk, for some windows of the corpus.

    Args:
        filters: the run's filters.
        limits: result of `keep_thresholds`.
        tokens: [window, position + 1], token ids; the target of position p is token p + 1.
        documents: [window, position], numbers of documents.
        scored: [window, position], tokens that count.
        sampled: [window, position], tokens of the uniform sample.
        numbers: [window], numbers of these windows in the corpus; chunks name windows by their place here.
    """

    def __init__(
        self,
        filters: Sequence[Filter],
        limits: Limits,
        tokens: np.ndarray,
        documents: np.ndarray,
        scored: np.ndarray,
        sampled: np.ndarray,
        numbers: np.ndarray,
    ) -> None:
        self.filters, self.limits = widest(filters), limits
        self.tokens, self.documents, self.numbers = tokens, documents, numbers
        self.scored: npt.NDArray[np.bool_] = scored.astype(bool)
        self.sampled: npt.NDArray[np.bool_] = sampled
        self._parts: list[dict[str, np.ndarray]] = []

    def add(self, effects: TokenEffects) -> None:
        """Keep the rows of one chunk that pass."""
        effect = effects.quantities["direct_effect"].astype(np.float32)  # as the survey's, which limits are from
        scored = np.broadcast_to(self.scored[effects.windows], effect.shape)
        sampled = np.broadcast_to(self.sampled[effects.windows], effect.shape)
        kept_as = np.where(sampled, len(self.filters), -1).astype(np.int8)
        farthest = np.full(effect.shape, -np.inf)
        for kind, filter_ in enumerate(self.filters):
            limit = self.limits[filter_.kind][effects.layer, effects.heads][:, None, None]
            beyond = filter_.score(effect).astype(np.float64) - filter_.score(limit)
            # small corpora keep so much that both ends include some tokens: they are of the nearer end
            taken = scored & filter_.passes(effect, limit) & (beyond > farthest)
            kept_as[taken], farthest[taken] = kind, beyond[taken]
        at = np.nonzero(kept_as >= 0)
        head, window, position = at
        local = effects.windows[window]
        part = {
            "layer": np.full(len(head), effects.layer, np.int16),
            "head": effects.heads[head].astype(np.int16),
            "window": self.numbers[local].astype(np.int32),
            "position": position.astype(np.int32),
            "token": self.tokens[local, position].astype(np.int32),
            "target": self.tokens[local, position + 1].astype(np.int32),
            "document": self.documents[local, position].astype(np.int32),
            "kept_as": kept_as[at],
            "in_sample": sampled[at],
        }
        part |= {name: effects.quantities[name][at] for name in QUANTITIES}
        self._parts.append(part)

    def arrays(self) -> dict[str, np.ndarray]:
        """All rows by layer, `rows/L/<column>`, ordered by head, window and position.

        Columns are those of `TOKEN_SCHEMA` with numbers of documents and places in `kept_as` instead of labels.
        """
        arrays: dict[str, np.ndarray] = {}
        for layer in sorted({int(part["layer"][0]) for part in self._parts if len(part["layer"])}):
            parts = [part for part in self._parts if len(part["layer"]) and part["layer"][0] == layer]
            rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            arrays |= {f"rows/{layer}/{name}": values for name, values in sorted_rows(rows).items()}
        return arrays


def sorted_rows(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows of one layer ordered by head, window and position, whatever order they came in."""
    order = np.lexsort((rows["position"], rows["window"], rows["head"]))
    return {name: values[order] for name, values in rows.items()}


def token_keys(rows: dict[str, np.ndarray], tokens: np.ndarray) -> npt.NDArray[np.int64]:
    """One number for (window, position) of some rows of a head, in the order of windows and positions; [token].

    Args:
        rows: arrays by column.
        tokens: places of the rows [token].
    """
    if not len(tokens):
        return np.zeros(0, np.int64)
    window, position = (rows[name][tokens].astype(np.int64) for name in ("window", "position"))
    return np.asarray((window << 32) | position)


def places_among(keys: np.ndarray, others: np.ndarray) -> npt.NDArray[np.int64]:
    """The place of each key among others, which are in ascending order; -1 for one that is not there."""
    if not len(others):
        return np.full(len(keys), -1, np.int64)
    places = np.minimum(np.searchsorted(others, keys), len(others) - 1)
    return np.where(others[places] == keys, places, -1)


def kept_as(filters: Sequence[Filter]) -> tuple[str, ...]:
    """Values of `kept_as`: kinds of filter, and the sample."""
    return (*choosing_kinds(filters), SAMPLE)


def token_table(rows: dict[str, np.ndarray], names: Sequence[str], filters: Sequence[Filter]) -> pa.Table:
    """Rows as the table of `tokens.parquet`.

    Args:
        rows: arrays by column, see `KeptTokens.arrays`.
        filters: the run's filters.
        names: names of the documents, by number.
    """
    present, places = np.unique(rows["document"], return_inverse=True)
    labels = {
        "document": (places, [names[document] for document in present]),
        "kept_as": (rows["kept_as"], kept_as(filters)),
    }
    arrays = []
    for field in TOKEN_SCHEMA:
        values = rows[field.name]
        if field.name in labels:
            indices, known = labels[field.name]
            arrays.append(pa.DictionaryArray.from_arrays(indices.astype(np.int32), pa.array(known, pa.string())))
        else:
            arrays.append(pa.array(values).cast(field.type))
    return pa.Table.from_arrays(arrays, schema=TOKEN_SCHEMA)


def token_hash(window: np.ndarray, position: np.ndarray, seed: int) -> npt.NDArray[np.uint64]:
    """SplitMix64 of (seed, window, position), [token]: the tokens with the smallest are a uniform sample."""
    mixed = np.zeros(len(window), np.uint64)
    for part in (np.full(len(window), seed), window, position):
        mixed = mixed + part.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed
