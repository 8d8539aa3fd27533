"""Sums over one text, or over several on which one model was measured alike.

Filters choose within each text (its units were summed under its own thresholds); the bootstrap draws documents from
all texts, so that the number of them from each text varies too. With one text, all of this is that text's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np

from selfrepair.errors import SelfRepairError
from selfrepair.results.proven import short_digest
from selfrepair.run.gathering.judgement import Judgement, judge_accuracy
from selfrepair.run.gathering.measured_text import MeasuredText
from selfrepair.run.gathering.one_text import Merger
from selfrepair.run.planning.job import Design
from selfrepair.run.scheduling.early_stopping import UnitsSoFar
from selfrepair.run.storage.finished_unit import Unit
from selfrepair.run.storage.store import Store
from selfrepair.run.storage.unit_file import Arrays
from selfrepair.run.unit.exactness import Accuracy
from selfrepair.run.unit.thresholds import merged_unit, require_survey
from selfrepair.statistics.accumulate import BY_ATTENTION, BY_HEAD, BY_MLP
from selfrepair.statistics.bootstrap import document_weights
from selfrepair.statistics.component_lines import Lines
from selfrepair.statistics.curves import CurveMoments
from selfrepair.statistics.donor_variance import VarianceSplit, donors_needed, variance_split
from selfrepair.statistics.features import INDEX, Array
from selfrepair.statistics.intervals import Replicated
from selfrepair.text import Windows


@dataclass(frozen=True)
class Pool:
    """Mergers of texts that share no document.

    Attributes:
        mergers: one for each text, in an order that the texts decide.
        digests: digest of every document's content, in the order of the mergers and their documents.
    """

    mergers: list[Merger]
    digests: list[str]

    @property
    def design(self) -> Design:
        """The first text's design; what is used of it is common to all."""
        return self.mergers[0].design

    @property
    def units(self) -> int:
        """How many finished units count."""
        return sum(len(merger.part.so_far.used) for merger in self.mergers)

    @property
    def missing(self) -> int:
        """How many units are missing: none of a run that is complete."""
        return sum(len(merger.part.so_far.missing) for merger in self.mergers)

    @property
    def made_of(self) -> str:
        """A digest of the digests of all units: results that rest on other units have another."""
        units = [unit.digest for merger in self.mergers for unit in (merger.surveyed, *merger.units)]
        return short_digest(" ".join(units).encode())

    def layer(self, layer: int, booked: Callable[[int, Arrays], None] | None = None) -> Replicated:
        """Sums of features of a layer's heads, over [filter, head], with their replicates.

        Args:
            layer: the layer.
            booked: called with each text's number and its kept tokens, some heads at a time.
        """
        parts = []
        for number, merger in enumerate(self.mergers):
            parts.append(merger.layer(layer, booked and (lambda rows, number=number: booked(number, rows))))
        return reduce(pooled_replicates, parts)

    @cached_property
    def short(self) -> float:
        """The largest share of replicates for which some head has too few kept tokens to be exact."""
        return max((share for merger in self.mergers for share in merger.short), default=0.0)

    @cached_property
    def accuracy(self) -> Accuracy:
        """The worst of all units."""
        return Accuracy.of(unit.get("accuracy") for merger in self.mergers for unit in merger.units)

    @cached_property
    def curves(self) -> CurveMoments:
        """Self-repair over tokens by bin of direct effect, [bin, layer, head]; bins are each text's own."""
        return reduce(CurveMoments.__add__, [merger.curves for merger in self.mergers])

    @cached_property
    def lines(self) -> Lines | None:
        """Component lines; None where none were kept."""
        lines = [merger.lines for merger in self.mergers if merger.lines is not None]
        if not lines:
            return None
        return Lines(lines, [name for name in (BY_ATTENTION, BY_MLP, BY_HEAD) if f"{name}/sum" in lines[0].moments])

    @cached_property
    def donor_split(self) -> VarianceSplit | None:
        """Variance of self-repair over documents, tokens and donors, [layer, head], all tokens; None for one donor."""
        draws = self.design.plan["ablation"]["draws"]
        if draws < 2:
            return None
        sums = np.concatenate([merger.donor_sums for merger in self.mergers])
        tokens, totals, squares, donors = np.moveaxis(sums, -1, 0)
        return variance_split(tokens, totals, squares, donors, draws)

    @cached_property
    def donors_needed(self) -> np.ndarray | None:
        """How many donors each head's mean self-repair needs, [layer, head]; None for one donor, which cannot tell."""
        tokens = np.concatenate([merger.counts for merger in self.mergers])
        return None if self.donor_split is None else donors_needed(self.donor_split, tokens)

    def surveyed(self, name: str) -> np.ndarray:
        """An array of the survey; NaN where texts differ."""
        per_text = [merger.surveyed.get(name) for merger in self.mergers]
        same = np.all([np.equal(values, per_text[0]) for values in per_text], axis=0)
        return np.where(same, per_text[0], np.nan).astype(per_text[0].dtype)

    @property
    def loss(self) -> float:
        """Loss of the model itself, nats per token."""
        tokens = [merger.design.plan["text"]["scored_tokens"] for merger in self.mergers]
        return float(np.average([float(merger.surveyed.get("loss")[0]) for merger in self.mergers], weights=tokens))

    @property
    def readout_error(self) -> tuple[float, float]:
        """The largest difference of the model's own centred logits from ours, and the largest over rounding's bound."""
        error, excess = np.max([merger.surveyed.get("readout_error") for merger in self.mergers], axis=0)
        return float(error), float(excess)

    @property
    def judgement(self) -> Judgement:
        """The checks' judgement of the numbers."""
        plans = [merger.design.plan for merger in self.mergers]
        full = all(plan["engine_settings"].get("precision") == "full" for plan in plans)
        return judge_accuracy(self.accuracy, self.readout_error, full)


def pooled_replicates(first: Replicated, second: Replicated) -> Replicated:
    """Sums over two sets of documents that share none."""
    tokens = [replicated.sums[..., INDEX["count"]] for replicated in (first, second)]

    def together(*effective: Array) -> Array:
        squares = [n**2 / np.where(several == 0, 1, several) for n, several in zip(tokens, effective, strict=True)]
        below = sum(squares)
        return np.asarray(sum(tokens) ** 2 / np.where(below == 0, 1, below))

    two_phase = any(part.effective_of_known is not None for part in (first, second))
    known = [part.effective if part.effective_of_known is None else part.effective_of_known for part in (first, second)]
    return Replicated(
        first.sums + second.sums,
        first.replicates + second.replicates,
        first.documents + second.documents,
        together(first.effective, second.effective),
        together(*known) if two_phase else None,
    )


def measured_text(design: Design, store: Store, unfinished: Sequence[Unit] = ()) -> MeasuredText:
    """A text's finished units that count, and those that were interrupted; its survey has to be merged.

    Raises:
        Damaged: a unit that is not what was written, or was made with other thresholds; no thresholds.
    """
    so_far, surveyed = UnitsSoFar(design, store).catch_up(), merged_unit(store)
    require_survey(design, store, surveyed)
    begun = [unit for unit in unfinished if unit.number < so_far.needed]
    units = sorted([*so_far.used, *begun], key=lambda unit: unit.number)
    for unit in units:
        unit.require_made_of([surveyed.digest], "thresholds")
    return MeasuredText(design, surveyed, units, so_far)


def pool_of(*parts: MeasuredText) -> Pool:
    """The mergers of one or several texts together.

    A document's draws are seeded by its content, so that order and names of documents and texts do not matter, and
    runs on the same text can be paired.

    Raises:
        SelfRepairError: texts that share a document.
    """
    ordered = sorted(parts, key=lambda part: str(part.design.plan["text"]["fingerprint"]))
    digests = [_digests(part.design.windows, part.documents) for part in ordered]
    _require_apart(ordered, digests)
    plan = ordered[0].design.plan
    every = [digest for of_text in digests for digest in of_text]
    drawn = document_weights(len(every), plan["replicates"], plan["seed"])[
        :, np.argsort(np.argsort(every, kind="stable"))
    ]
    weights = np.concatenate([np.ones((1, len(every)), drawn.dtype), drawn])
    borders = np.cumsum([len(of_text) for of_text in digests])[:-1]
    shares = np.split(weights, borders, axis=1)
    return Pool([Merger(part, share) for part, share in zip(ordered, shares, strict=True)], every)


def _require_apart(parts: Sequence[MeasuredText], digests: Sequence[Sequence[str]]) -> None:
    """Refuses texts that have a document in common: it would count as two."""
    seen: dict[str, str] = {}
    for part, of_text in zip(parts, digests, strict=True):
        here = {
            digest: part.design.windows.names[document]
            for digest, document in zip(of_text, part.documents, strict=True)
        }
        shared = next((digest for digest in here if digest in seen), None)
        if shared is not None:
            raise SelfRepairError(
                f"Two of the texts share a document: '{seen[shared]}' has the same content as '{here[shared]}'.",
                "Merge runs on texts without common documents; compare runs on one text with `selfrepair compare`.",
            )
        seen |= here


def _digests(windows: Windows, documents: np.ndarray) -> list[str]:
    """Digest of each document's content: a sha256 over its windows' parts, in any order."""
    parts: dict[int, list[bytes]] = {int(document): [] for document in documents}
    for tokens, owners in zip(windows.tokens, windows.documents, strict=True):
        for document in np.unique(owners[owners >= 0]):
            if int(document) in parts:
                parts[int(document)].append(hashlib.sha256(tokens[owners == document].astype("<i8").tobytes()).digest())
    return [hashlib.sha256(b"".join(sorted(parts[int(document)]))).hexdigest() for document in documents]
