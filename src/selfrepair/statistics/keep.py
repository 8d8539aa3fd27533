"""Which tokens are kept as rows: those the filters choose, with a margin, and a uniform sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selfrepair.statistics.accumulate import QUANTITIES, TokenEffects
from selfrepair.statistics.filters import Filter, kth_values

KEPT_AS = ("top", "bottom", "sample")
MARGIN = 2
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


@dataclass(frozen=True)
class KeepThresholds:
    """Direct effects from which (`top`) and up to which (`bottom`) tokens are kept, each [layer, head]."""

    top: npt.NDArray[np.floating] | None
    bottom: npt.NDArray[np.floating] | None


def keep_thresholds(filters: Sequence[Filter], direct_effects: np.ndarray) -> KeepThresholds:
    """Thresholds for twice the share of the widest top and bottom filters.

    Args:
        filters: the run's filters; kinds that are not among them keep nothing.
        direct_effects: clean direct effects of all scored tokens, [layer, head, token], centred logits.
    """
    tokens = direct_effects.shape[-1]
    limits: dict[str, npt.NDArray[np.floating] | None] = {"top": None, "bottom": None}
    for kind in limits:
        fractions = [one.fraction for one in filters if one.kind == kind]
        if fractions:
            kept = min(max(1, int(MARGIN * max(fractions) * tokens)), tokens)
            limits[kind] = kth_values(direct_effects, kept, largest=kind == "top")
    return KeepThresholds(**limits)


def uniform_sample(scored: np.ndarray, size: int, seed: int = 0) -> npt.NDArray[np.bool_]:
    """`size` scored tokens with the smallest seeded hashes of (window, position), [window, position].

    The same tokens for every head, whatever the order of the sweep.
    """
    window, position = np.nonzero(scored)
    order = np.argsort(_hash(window, position, seed), kind="stable")[:size]
    chosen = np.zeros(scored.shape, bool)
    chosen[window[order], position[order]] = True
    return chosen


class KeptTokens:
    """Collects the rows of `tokens.parquet`, chunk by chunk.

    Args:
        thresholds: from `keep_thresholds`.
        tokens: [window, position + 1], token ids; the target of position p is token p + 1.
        documents: [window, position], index into `names`.
        names: names of the documents.
        scored: [window, position], tokens that count.
        sample: size of the uniform sample, in tokens, the same for every head.
        seed: of the sample.
    """

    def __init__(
        self,
        thresholds: KeepThresholds,
        tokens: np.ndarray,
        documents: np.ndarray,
        names: Sequence[str],
        scored: np.ndarray,
        sample: int = 64,
        seed: int = 0,
    ) -> None:
        self.thresholds, self.tokens, self.documents, self.names = thresholds, tokens, documents, tuple(names)
        self.scored: npt.NDArray[np.bool_] = scored.astype(bool)
        self.sampled = uniform_sample(self.scored, sample, seed)
        self._parts: list[dict[str, np.ndarray]] = []

    def add(self, effects: TokenEffects) -> None:
        """Keep the rows of one chunk that pass."""
        effect = effects.quantities["direct_effect"].astype(np.float32)  # as the survey's, which limits are from
        scored = np.broadcast_to(self.scored[effects.windows], effect.shape)
        sampled = np.broadcast_to(self.sampled[effects.windows], effect.shape)
        kept_as = np.where(sampled, KEPT_AS.index("sample"), -1).astype(np.int8)
        if self.thresholds.bottom is not None:
            limits = self.thresholds.bottom[effects.layer, effects.heads][:, None, None]
            kept_as[scored & (effect <= limits)] = KEPT_AS.index("bottom")
        if self.thresholds.top is not None:
            limits = self.thresholds.top[effects.layer, effects.heads][:, None, None]
            kept_as[scored & (effect >= limits)] = KEPT_AS.index("top")
        place = np.nonzero(kept_as >= 0)
        head, window, position = place
        part = {
            "layer": np.full(len(head), effects.layer),
            "head": effects.heads[head],
            "window": effects.windows[window],
            "position": position,
            "kept_as": kept_as[place],
            "in_sample": sampled[place],
        }
        part |= {name: effects.quantities[name][place] for name in QUANTITIES}
        self._parts.append(part)

    def arrays(self) -> dict[str, np.ndarray]:
        """All rows by layer, `rows/L/<column>`, ordered by head, window and position.

        Columns are those of `TOKEN_SCHEMA` with places in `names` and `KEPT_AS` instead of labels.
        """
        arrays: dict[str, np.ndarray] = {}
        for layer in sorted({int(part["layer"][0]) for part in self._parts if len(part["layer"])}):
            parts = [part for part in self._parts if len(part["layer"]) and part["layer"][0] == layer]
            rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            arrays |= {f"rows/{layer}/{name}": values for name, values in self._complete(sorted_rows(rows)).items()}
        return arrays

    def _complete(self, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        window, position = rows["window"], rows["position"]
        return rows | {
            "token": self.tokens[window, position],
            "target": self.tokens[window, position + 1],
            "document": self.documents[window, position],
        }


def sorted_rows(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows of one layer ordered by head, window and position, whatever order they came in."""
    order = np.lexsort((rows["position"], rows["window"], rows["head"]))
    return {name: values[order] for name, values in rows.items()}


def token_table(rows: dict[str, np.ndarray], names: Sequence[str]) -> pa.Table:
    """Rows as the table of `tokens.parquet`.

    Args:
        rows: by column, see `KeptTokens.arrays`.
        names: names of the documents.
    """
    labels = {"document": names, "kept_as": KEPT_AS}
    arrays = []
    for field in TOKEN_SCHEMA:
        values = rows[field.name]
        if field.name in labels:
            indices, known = pa.array(values.astype(np.int32)), pa.array(labels[field.name], pa.string())
            arrays.append(pa.DictionaryArray.from_arrays(indices, known))
        else:
            arrays.append(pa.array(values).cast(field.type))
    return pa.Table.from_arrays(arrays, schema=TOKEN_SCHEMA)


def _hash(window: np.ndarray, position: np.ndarray, seed: int) -> npt.NDArray[np.uint64]:
    """SplitMix64 of (seed, window, position)."""
    mixed = np.zeros(len(window), np.uint64)
    for part in (np.full(len(window), seed), window, position):
        mixed = mixed + part.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed
