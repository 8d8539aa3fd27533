"""From finished units to a `Run`: always in the order of the units, so the result is the same to the bit whoever
did them and in whatever order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from pathlib import Path

import numpy as np
from safetensors import safe_open

from selfrepair.run.accuracy import Accuracy
from selfrepair.run.job import Design
from selfrepair.run.store import Arrays, Store
from selfrepair.run.sweep import STAGE as SWEEP
from selfrepair.run.thresholds import STAGE as THRESHOLDS
from selfrepair.statistics.bootstrap import (
    FilteredReplicates,
    bootstrap_all,
    bootstrap_filtered,
    document_weights,
    effective_documents,
)
from selfrepair.statistics.curves import Moments
from selfrepair.statistics.donors import VarianceSplit, variance_split
from selfrepair.statistics.features import DONOR_VARIANCES, FEATURES, INDEX, features
from selfrepair.statistics.filters import Filter
from selfrepair.statistics.intervals import Replicated
from selfrepair.text import Windows


class Unit:
    """A unit's arrays, read from its file when they are asked for, or held in memory (one that was interrupted)."""

    def __init__(self, path: Path | None = None, arrays: Arrays | None = None) -> None:
        self.path, self.arrays = path, arrays

    def get(self, name: str) -> np.ndarray:
        """One array."""
        if self.arrays is not None:
            return self.arrays[name]
        with safe_open(self.path, "numpy") as file:
            array: np.ndarray = file.get_tensor(name)
        return array

    def starting_with(self, prefix: str) -> Arrays:
        """All arrays whose names start with `prefix`, which is cut off."""
        if self.arrays is not None:
            return {n.removeprefix(prefix): v for n, v in self.arrays.items() if n.startswith(prefix)}
        with safe_open(self.path, "numpy") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}


@dataclass(frozen=True)
class Merger:
    """Sums over all units, with a replicate for every resampling of the documents.

    Attributes:
        design: the run.
        surveyed: the merged survey.
        units: its finished sweep units, in their order.
        short: for every filtered head, the share of replicates for which too few tokens were kept to be exact.
    """

    design: Design
    surveyed: Unit
    units: list[Unit]
    short: list[float] = field(default_factory=list)

    @cached_property
    def documents(self) -> np.ndarray:
        """Documents of the corpus that have scored tokens."""
        found: np.ndarray = np.unique(self.design.documents[self.design.scored])
        return found

    @cached_property
    def weights(self) -> np.ndarray:
        """[1 + replicate, document]: how often a document counts; the first row is the corpus as it is.

        A document's draws go by its words, so that order and names of documents do not matter, and runs on the same
        text can be paired.
        """
        drawn = document_weights(len(self.documents), self.design.plan["replicates"], self.design.plan["seed"])
        rank = np.argsort(np.argsort(_digests(self.design.windows, self.documents), kind="stable"))
        drawn = drawn[:, rank]
        return np.concatenate([np.ones((1, len(self.documents)), drawn.dtype), drawn])

    @property
    def replicates(self) -> int:
        """Rows of `weights`."""
        return len(self.weights)

    @cached_property
    def accuracy(self) -> Accuracy:
        """The worst of all units."""
        return Accuracy.of(unit.get("accuracy") for unit in self.units)

    @cached_property
    def _everything(self) -> tuple[np.ndarray, np.ndarray]:
        """Sums over all tokens [replicate, layer, head, feature]; scored tokens [document, layer, head]."""
        sums = np.zeros((self.replicates, *self.design.shape, len(FEATURES)))
        counts = np.zeros((len(self.documents), *self.design.shape), np.int32)
        for unit in self.units:
            places = np.searchsorted(self.documents, unit.get("documents"))
            found = unit.get("features")
            sums += bootstrap_all(found, self.weights[:, places])
            counts[places] += found[..., INDEX["count"]].astype(np.int32)
        return sums, counts

    def layer(self, layer: int, rows: Arrays) -> Replicated:
        """Sums of features of a layer's heads, over [filter, head], with their replicates, in each of which the
        filter is applied anew.

        Args:
            layer: the layer.
            rows: its kept tokens, see `run.results.layer_rows`.
        """
        cells = (len(self.design.filters), self.design.shape[1])
        found = np.zeros((self.replicates, *cells, len(FEATURES)))
        documents, effective = np.zeros(cells, np.int64), np.zeros(cells)
        everything, counts = self._everything
        values = features(rows, self.design.negligible) if rows else np.zeros((0, len(FEATURES)))
        for place, one in enumerate(self.design.filters):
            if one.kind == "all":
                found[:, place] = everything[:, layer]
                documents[place] = (counts[:, layer] > 0).sum(0)
                effective[place] = effective_documents(counts[:, layer])
                continue
            for head in np.unique(rows["head"]) if rows else ():
                tail = self._filtered(one, rows, values, int(head), counts[:, layer, head])
                found[:, place, head] = tail.sums
                self.short.append(tail.short)
                documents[place, head], effective[place, head] = tail.documents, tail.effective
        return Replicated(found[0], found[1:], documents, effective)

    def _filtered(
        self, one: Filter, rows: Arrays, values: np.ndarray, head: int, scored: np.ndarray
    ) -> FilteredReplicates:
        assert one.kind != "all"
        kept = self._tail(one, rows, head)
        return bootstrap_filtered(
            rows["direct_effect"][kept].astype(np.float32),
            values[kept],
            np.searchsorted(self.documents, rows["document"][kept]),
            scored,
            one.fraction,
            one.kind,
            self.weights,
        )

    def _tail(self, one: Filter, rows: Arrays, head: int) -> np.ndarray:
        """A head's kept tokens beyond the limit from which all tokens were kept; the sample's others are left out."""
        limit = self.limits[one.kind][int(rows["layer"][0]), head]
        effect = rows["direct_effect"].astype(np.float32)
        beyond = effect >= limit if one.kind == "top" else effect <= limit
        return np.flatnonzero((rows["head"] == head) & beyond)

    @cached_property
    def limits(self) -> Arrays:
        """Direct effects from which (`top`) and up to which (`bottom`) all tokens were kept, [layer, head]."""
        return {"top": self.surveyed.get("keep_top"), "bottom": self.surveyed.get("keep_bottom")}

    @cached_property
    def donor_split(self) -> VarianceSplit | None:
        """Variance of self-repair over documents, tokens and donors, [layer, head], all tokens; None for one donor."""
        draws = self.design.plan["ablation"]["draws"]
        if draws < 2:
            return None
        columns = [INDEX[name] for name in ("count", "self_repair", "self_repair_squared", DONOR_VARIANCES[0])]
        sums = np.zeros((len(self.documents), *self.design.shape, len(columns)))
        for unit in self.units:
            np.add.at(sums, np.searchsorted(self.documents, unit.get("documents")), unit.get("features")[..., columns])
        tokens, totals, squares, donor_variances = np.moveaxis(sums, -1, 0)
        return variance_split(tokens, totals, squares, donor_variances, draws)

    @cached_property
    def curves(self) -> Moments:
        """Self-repair over tokens by bin of direct effect, [bin, layer, head]; see `statistics.curves`."""
        parts = [Moments(**unit.starting_with("curve/")) for unit in self.units]
        return reduce(Moments.__add__, parts)


def _digests(windows: Windows, documents: np.ndarray) -> list[str]:
    """What each document says, as a sha256 over its tokens, window by window."""
    parts: dict[int, list[bytes]] = {int(document): [] for document in documents}
    for tokens, owners in zip(windows.tokens, windows.documents, strict=True):
        for document in np.unique(owners[owners >= 0]):
            if int(document) in parts:
                parts[int(document)].append(tokens[owners == document].astype("<i8").tobytes())
    return [hashlib.sha256(b"".join(sorted(parts[int(document)]))).hexdigest() for document in documents]


def merger_of(design: Design, store: Store, unfinished: Sequence[Unit] = ()) -> Merger:
    """What a store's finished units, and those that were interrupted, add up to; the survey has to be merged."""
    finished = store.finished(SWEEP)
    units = [*(Unit(finished[number]) for number in sorted(finished)), *unfinished]
    return Merger(design, Unit(store.finished(THRESHOLDS)[0]), units)
