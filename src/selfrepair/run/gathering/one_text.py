"""From a text's finished units to sums: always in the order of the units, so the result is bit-for-bit
identical no matter which worker did them and in what order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, reduce
from itertools import chain

import numpy as np

from selfrepair.run.gathering.kept_features import KeptFeatures
from selfrepair.run.gathering.measured_text import MeasuredText
from selfrepair.run.planning.job import Design
from selfrepair.run.storage.finished_unit import Unit, kept_rows
from selfrepair.run.storage.split_documents import joined_documents
from selfrepair.run.storage.unit_file import Arrays
from selfrepair.run.unit.surrogate_sums import ROWS as SURROGATE
from selfrepair.run.unit.surrogate_sums import SCORED, of_these_documents
from selfrepair.run.unit.thresholds import EXPANSION, KEEP
from selfrepair.run.unit.whole_sums import SUMS
from selfrepair.statistics.accumulate import line_moments
from selfrepair.statistics.bootstrap import (
    FilteredReplicates,
    TokenFeatures,
    bootstrap_all,
    bootstrap_filtered,
    effective_documents,
)
from selfrepair.statistics.component_lines import TextLines
from selfrepair.statistics.curves import CurveMoments
from selfrepair.statistics.features import DONOR_VARIANCES, FEATURES, INDEX
from selfrepair.statistics.filters import Filter, scores_of
from selfrepair.statistics.intervals import Replicated
from selfrepair.statistics.keep import places_among, token_keys
from selfrepair.statistics.keep_limits import EXACT, MARGIN, widest
from selfrepair.statistics.two_phase import (
    PART,
    Estimated,
    TwoPhaseFeatures,
    estimated,
    estimated_over_all,
    joined_phases,
)

_ROWS = 2**16  # kept tokens that are in memory at once, if several heads together have fewer

_Filtered = FilteredReplicates | Estimated


@dataclass(frozen=True)
class Merger:
    """Sums over all units of a text, with a replicate for every resampling of the documents.

    Attributes:
        part: the units.
        weights: [1 + replicate, document]: how often a document counts; the first row is the corpus as it is.
        short: for every filtered head, the share of replicates for which too few tokens were kept to be exact.
    """

    part: MeasuredText
    weights: np.ndarray
    short: list[float] = field(default_factory=list)

    @property
    def design(self) -> Design:
        """The run's design."""
        return self.part.design

    @property
    def surveyed(self) -> Unit:
        """The merged survey."""
        return self.part.surveyed

    @property
    def units(self) -> list[Unit]:
        """Finished units that count, in their order."""
        return self.part.units

    @property
    def documents(self) -> np.ndarray:
        """Documents that have scored tokens in these units."""
        return self.part.documents

    @property
    def replicates(self) -> int:
        """Rows of `weights`."""
        return len(self.weights)

    @cached_property
    def _everything(self) -> tuple[np.ndarray, np.ndarray]:
        """Sums over all tokens [replicate, layer, head, column], of both phases where a surrogate has such sums and
        empty where no filter takes all tokens; scored tokens [document, layer, head]."""
        columns = PART + 1 if self._whole else len(FEATURES)
        wanted = any(not filter_.chooses for filter_ in self.design.filters)
        sums = np.zeros((self.replicates, *self.design.shape, columns if wanted else 0))
        counts = np.zeros((len(self.documents), *self.design.shape), np.int32)
        for unit in self.units:
            places = np.searchsorted(self.documents, unit.get("documents"))
            unit_features = unit.get("features")
            counts[places] += unit_features[..., INDEX["count"]].astype(np.int32)
            if wanted:
                rows = joined_phases(unit.get(SUMS), unit_features) if self._whole else unit_features
                sums += bootstrap_all(rows, self.weights[:, places])
        return sums, counts

    @property
    def _whole(self) -> bool:
        """Whether a surrogate has sums over all tokens."""
        phases = self.design.plan["phases"]
        return phases is not None and bool(phases["words_of_all"])

    @cached_property
    def _all_tokens(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Sums over all tokens [replicate, layer, head, feature], the documents they come from, what these amount to
        and what they do for numbers that a surrogate knows, [layer, head]."""
        sums, counts = self._everything
        if self._whole:
            estimated_sums, effective, known = estimated_over_all(sums, self._scored_counts, counts)
            return estimated_sums, (self._scored_counts > 0).sum(0), effective, known
        if self.two_phase:  # sums over all documents, as those of filters are
            counted, every = (bootstrap_all(number, self.weights) for number in (counts, self._scored_counts))
            sums = sums * np.where(counted > 0, every / np.maximum(counted, 1), 0.0)[..., None]
        effective = effective_documents(counts)
        return sums, (counts > 0).sum(0), effective, effective

    def layer(self, layer: int, booked: Callable[[Arrays], None] | None = None) -> Replicated:
        """Sums of features of a layer's heads, over [filter, head], with their replicates, in each of which the
        filter is applied again.

        Args:
            layer: the layer.
            booked: called with its kept tokens, some heads at a time, in order of head, window and position.
        """
        cells = (len(self.design.filters), self.design.shape[1])
        sums = np.zeros((self.replicates, *cells, len(FEATURES)))
        documents, effective, known = np.zeros(cells, np.int64), np.zeros(cells), np.zeros(cells)
        for index, filter_ in enumerate(self.design.filters):
            if not filter_.chooses:
                everything, of_documents, amount, of_known = self._all_tokens
                sums[:, index], documents[index] = everything[:, layer], of_documents[layer]
                effective[index], known[index] = amount[layer], of_known[layer]
        for heads in self._groups():
            rows = kept_rows(self.units, layer, heads)
            if booked is not None and rows:
                booked(rows)
            for index, head, tail in self._filtered(layer, heads, rows):
                sums[:, index, head] = tail.sums
                self.short.append(tail.short)
                documents[index, head], effective[index, head] = tail.documents, tail.effective
                known[index, head] = tail.effective_of_known if isinstance(tail, Estimated) else np.nan
        return Replicated(sums[0], sums[1:], documents, effective, known if self.two_phase else None)

    @property
    def two_phase(self) -> bool:
        """Whether sums are estimated in two phases."""
        return self.design.plan["phases"] is not None

    def _groups(self) -> Iterator[range]:
        """Heads of a layer, as many at a time as fit in memory with their kept tokens."""
        heads = self.design.shape[1]
        step = max(1, _ROWS // max(1, self._rows_per_head))
        for start in range(0, heads, step):
            yield range(start, min(start + step, heads))

    @cached_property
    def _rows_per_head(self) -> int:
        """Kept tokens of a head, approximately."""
        plan = self.design.plan
        tokens = int(plan["text"]["scored_tokens"])
        shares = [filter_.fraction for filter_ in widest(self.design.filters)]
        tails = sum(max(int(MARGIN * share * tokens), min(EXACT, tokens)) for share in shares)
        return tails + int(plan["sample"])

    def _filtered(self, layer: int, heads: range, rows: Arrays) -> Iterator[tuple[int, int, _Filtered]]:
        """(filter, head, replicates) for each filter that chooses tokens.

        Args:
            layer: the layer.
            heads: some of its heads.
            rows: their kept tokens.
        """
        table = kept_rows(self.units, layer, heads, SURROGATE) if self.two_phase else rows
        for index, filter_ in enumerate(self.design.filters):
            for head in np.unique(table["head"]).tolist() if filter_.chooses and table else ():
                if self.two_phase:
                    yield index, head, self._in_two_phases(filter_, (layer, head), table, rows)
                else:
                    yield index, head, self._beyond(filter_, (layer, head), table)

    def _beyond(self, filter_: Filter, head: tuple[int, int], rows: Arrays) -> FilteredReplicates:
        """Replicates of a head's sums over a filter's tokens, all of which were measured exactly."""
        kept = self._tail(filter_, head, rows)
        return self._replicates(
            filter_, rows, kept, KeptFeatures(rows, kept, self.design.negligible), self.counts, head
        )

    def _in_two_phases(self, filter_: Filter, head: tuple[int, int], cheap: Arrays, exact: Arrays) -> Estimated:
        """Replicates of a head's estimated sums over a filter's tokens.

        Args:
            filter_: the filter.
            head: (layer, head).
            cheap: kept tokens of all documents, by the surrogate.
            exact: those of the exact part.
        """
        kept, negligible = self._tail(filter_, head, cheap), self.design.negligible
        of_part = self._tail(filter_, head, exact) if exact else np.zeros(0, np.int64)
        match = places_among(token_keys(cheap, kept), token_keys(exact, of_part))
        table = TwoPhaseFeatures(
            KeptFeatures(cheap, kept, negligible), KeptFeatures(exact or cheap, of_part, negligible), match
        )
        found = self._replicates(filter_, cheap, kept, table, self._scored_counts, head)
        return estimated(found, self.counts[:, *head] > 0)

    def _replicates(
        self,
        filter_: Filter,
        rows: Arrays,
        kept: np.ndarray,
        table: TokenFeatures,
        counts: np.ndarray,
        head: tuple[int, int],
    ) -> FilteredReplicates:
        document = np.searchsorted(self.documents, rows["document"][kept])
        scores = filter_.score(rows["direct_effect"][kept].astype(np.float32))
        counted = counts[:, *head].astype(np.int64)
        return bootstrap_filtered(scores, table, document, counted, filter_.fraction, self.weights)

    def _tail(self, filter_: Filter, head: tuple[int, int], rows: Arrays) -> np.ndarray:
        """A head's kept tokens beyond the limit from which all tokens were kept; the sample's others are left out."""
        limit = self._limits[filter_.kind][head]
        low, high = np.searchsorted(rows["head"], [head[1], head[1] + 1])
        effect = rows["direct_effect"][low:high].astype(np.float32)
        beyond = np.flatnonzero(filter_.passes(effect, limit))
        return np.asarray(low + beyond)

    @cached_property
    def _limits(self) -> Arrays:
        """Direct effects from which on all tokens were kept, [layer, head], by kind of filter."""
        return {filter_.kind: self.surveyed.get(f"{KEEP}{filter_.kind}") for filter_ in widest(self.design.filters)}

    @cached_property
    def _scored_counts(self) -> np.ndarray:
        """Scored tokens that a surrogate has seen, [document, layer, head]."""
        counts = np.zeros((len(self.documents), *self.design.shape), np.int32)
        phases = self.design.plan["phases"]
        chosen = phases is not None and phases["words"]
        for unit in self.units:
            seen = unit.get(SCORED) if chosen else unit.get(SUMS)[..., INDEX["count"]].astype(np.int32)
            counts[np.searchsorted(self.documents, unit.get("documents"))] += seen
        return counts

    @property
    def counts(self) -> np.ndarray:
        """Scored tokens, [document, layer, head]."""
        return self._everything[1]

    @property
    def donor_sums(self) -> np.ndarray:
        """[document, layer, head, (tokens, self-repair, its square, its variance over donors)], over all tokens."""
        columns = [INDEX[name] for name in ("count", "self_repair", "self_repair_squared", DONOR_VARIANCES[0])]
        sums = np.zeros((len(self.documents), *self.design.shape, len(columns)))
        for unit in self.units:
            sums[np.searchsorted(self.documents, unit.get("documents"))] += unit.get("features")[..., columns]
        return sums

    @cached_property
    def curves(self) -> CurveMoments:
        """Self-repair over tokens by bin of direct effect, [bin, layer, head]; see `statistics.curves`."""
        parts = [CurveMoments(**unit.starting_with("curve/")) for unit in self.units]
        joined = joined_documents(self.units, self.design.last_units, "curve/")
        return reduce(CurveMoments.__add__, [*parts, *(CurveMoments.of(points["y"], points["x"]) for points in joined)])

    @cached_property
    def lines(self) -> TextLines | None:
        """Moments of component lines over documents; None where none were kept."""
        joined = joined_documents(self.units, self.design.last_units, "lines/")
        totals: Arrays = {}
        for part in chain((unit.starting_with("lines/") for unit in self.units), map(line_moments, joined)):
            for name, value in part.items():
                totals[name] = totals[name] + value if name in totals else value
        if not any("/" in name for name in totals):
            return None
        if self.two_phase:
            totals = of_these_documents(totals, self.surveyed.get(EXPANSION))
        return TextLines(totals, scores_of(self.design.filters, self.surveyed.get("thresholds")))
