"""A plan with its text (`Design`, for merging), and with the model too (`Job`, for computing)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from selfrepair.ablation.interventions import Intervention, each
from selfrepair.ablation.operators import Operator
from selfrepair.ablation.sites import Head
from selfrepair.engine import Engine
from selfrepair.engine.surrogates import Surrogates
from selfrepair.model.language_model import LanguageModel
from selfrepair.results.intervention_axis import Cell, cells_of_heads
from selfrepair.results.plan import Plan
from selfrepair.run.planning.batch_size import UNIT_TOKENS
from selfrepair.run.planning.exact_part import drawn_part, spread_part
from selfrepair.statistics.accumulate import Components
from selfrepair.statistics.filters import Filter, main_filter
from selfrepair.statistics.keep import uniform_sample
from selfrepair.statistics.keep_limits import spreads_kept
from selfrepair.statistics.stopping import MINIMUM
from selfrepair.text import Windows


@dataclass(frozen=True)
class Until:
    """When to stop early; see `selfrepair.statistics.stopping`.

    Attributes:
        target: standard error asked for.
        of: `card`, the repaired fraction of all heads together, or `heads`, the mean self-repair (logit) of each.
        filter: index of the filter whose tokens count.
    """

    target: float
    of: str
    filter: int


_STRETCH = 4  # factor by which a unit may grow to keep a document whole


@dataclass(frozen=True)
class Design:
    """What a run measures, apart from the model's weights: all that is needed to merge its units.

    Attributes:
        plan: the frozen plan.
        windows: the corpus.
        donors: [window, donor] donor windows.
    """

    plan: Plan
    windows: Windows
    donors: np.ndarray

    @cached_property
    def heads(self) -> list[Head]:
        """Cells of results: heads to ablate, or (layer in which it starts, place in its row) of each intervention."""
        return [Head(*pair) for pair in self.plan["heads"]]

    @property
    def of_heads(self) -> bool:
        """Whether each intervention is the ablation of one head."""
        return self.plan["interventions"] is None

    @cached_property
    def interventions(self) -> list[Intervention]:
        """What to ablate, one run each."""
        given = self.plan["interventions"]
        return each(self.heads) if given is None else [Intervention.parsed(text) for text in given]

    @cached_property
    def cells(self) -> dict[Intervention, tuple[int, int]]:
        """Where results keep each intervention: the layer in which it starts, and a place in that layer's row."""
        return dict(zip(self.interventions, self.heads, strict=True))

    @cached_property
    def at(self) -> dict[tuple[int, int], Intervention]:
        """The intervention of each cell."""
        return {cell: intervention for intervention, cell in self.cells.items()}

    @cached_property
    def axis(self) -> list[Cell]:
        """The axis `intervention` of results: of single heads, every head of the model, ablated or not."""
        if self.of_heads:
            return cells_of_heads(self.plan["model"]["heads_by_layer"])
        return sorted(Cell(*cell, intervention.kind, intervention.name) for intervention, cell in self.cells.items())

    def columns(self, layer: int) -> int:
        """Cells in the row of a layer: its heads, or the interventions that start there."""
        if self.of_heads:
            columns: int = self.plan["model"]["heads_by_layer"][layer]
            return columns
        return sum(head.layer == layer for head in self.heads)

    @cached_property
    def filters(self) -> list[Filter]:
        """Which tokens numbers average over."""
        return [Filter.parse(label) for label in self.plan["filters"]]

    @cached_property
    def main_filter(self) -> int:
        """Index of the filter that numbers are shown under: the first of a top share, or the first."""
        return main_filter(self.filters)

    @cached_property
    def until(self) -> Until | None:
        """When to stop early; None for a run that goes on to its end."""
        asked = self.plan["until"]
        return None if asked is None else Until(asked["standard_error"], asked["of"], self.main_filter)

    @property
    def components(self) -> Components:
        """Which downstream lines are summed."""
        return self.plan["components"]

    @property
    def negligible(self) -> float:
        """Effects in logits up to this size count as none when tokens are sorted into repaired and made worse."""
        return 1e-12 if self.plan["model"]["dtype"] == "float64" else 1e-5

    @property
    def model_shape(self) -> tuple[int, int]:
        """(layers, heads per layer) of the model: the components that lines are of."""
        return self.plan["model"]["layers"], self.plan["model"]["heads"]

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(layers, cells per layer): the heads or other interventions that results are of."""
        layers, heads = self.model_shape
        if self.of_heads:
            return layers, heads
        return layers, max(self.columns(layer) for layer in range(layers))

    @cached_property
    def scored(self) -> np.ndarray:
        """Predictions that count, bool [window, position]."""
        return self.windows.scored(self.plan["text"]["first_position"])

    @cached_property
    def documents(self) -> np.ndarray:
        """Document of every prediction, [window, position]."""
        return self.windows.documents[:, :-1]

    @cached_property
    def units(self) -> list[np.ndarray]:
        """Windows of every unit of work; windows of one document come one after the other, in one unit where that
        does not make it much larger. A run that may stop early takes its documents in random order."""
        size, documents = self.plan["windows_per_unit"], self.windows.documents
        order = np.argsort(self._rank[documents[:, 0]], kind="stable")
        last = documents[order, self.windows.lengths[order] - 1]
        continues = last[:-1] == documents[order[1:], 0]
        units, start = [], 0
        while start < len(order):
            end = min(start + size, len(order))
            while end < min(start + _STRETCH * size, len(order)) and continues[end - 1]:
                end += 1
            units.append(order[start:end])
            start = end
        return units if self.plan["phases"] is None else [unit[self._exact_first(unit)] for unit in units]

    @cached_property
    def _rank(self) -> np.ndarray:
        """The place of every document in the order of the work [document]."""
        rank = np.arange(self.windows.documents.max() + 1)
        return rank if self.until is None else np.random.default_rng(self.plan["seed"]).permutation(len(rank))

    def _exact_first(self, windows: np.ndarray) -> np.ndarray:
        """The order in which windows with exactly measured tokens come first, in batches of their own."""
        return np.argsort(~self.counted[windows].any(1), kind="stable")

    @property
    def sparse(self) -> bool:
        """Whether effects are computed of kept tokens only: no filter takes all tokens."""
        return self.of_heads and all(filter_.chooses for filter_ in self.filters)

    @cached_property
    def spreads(self) -> float | None:
        """Standard deviations over resamplings that are kept (`keep_limits.spreads_kept`), where every kept token costs
        ablated runs of its own; None where it does not, and more are kept."""
        if not self.sparse and self.plan["phases"] is None:
            return None
        documents = len(np.unique(self.documents[self.scored]))
        return spreads_kept(documents, documents if self.until is None else MINIMUM)

    @cached_property
    def counted(self) -> np.ndarray:
        """Predictions that are measured exactly, bool [window, position]: all scored ones, or in two phases those of a
        random part of the documents."""
        if self.plan["phases"] is None:
            return self.scored
        counted: np.ndarray = self.scored & np.isin(self.documents, self.exact_documents)
        return counted

    @cached_property
    def exact_documents(self) -> np.ndarray:
        """Documents that are measured exactly: all with scored tokens, or in two phases a random part of them. Of a
        run that may stop early the part is spread evenly over the random order in which documents come, so that it
        has its share (to one document) of however many are read, and is a random part of these."""
        documents, phases = np.unique(self.documents[self.scored]), self.plan["phases"]
        if phases is None:
            return documents
        number, seed = phases["exact_documents"], self.plan["seed"]
        if self.until is None:
            return drawn_part(documents, number, seed)
        return spread_part(documents[np.argsort(self._rank[documents], kind="stable")], number, seed)

    @property
    def watches_estimates(self) -> bool:
        """Whether a run that may stop early looks at numbers that a surrogate estimates."""
        phases = self.plan["phases"]
        if phases is None or self.until is None:
            return False
        return bool(phases["words" if self.filters[self.until.filter].chooses else "words_of_all"])

    @cached_property
    def last_units(self) -> dict[int, int]:
        """The last unit of every document that has scored tokens in several units."""
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for number in range(len(self.units)):
            for document in self.unit_documents(number).tolist():
                if first.setdefault(document, number) != number:
                    last[document] = number
        return last

    def unit_documents(self, unit: int) -> np.ndarray:
        """Documents that have scored tokens in a unit, in the order of their numbers."""
        windows = self.units[unit]
        documents: np.ndarray = np.unique(self.documents[windows][self.scored[windows]])
        return documents

    @cached_property
    def scored_documents(self) -> np.ndarray:
        """Documents of the corpus that have scored tokens, in the order of their numbers."""
        return np.unique(np.concatenate([self.unit_documents(number) for number in range(len(self.units))]))

    @cached_property
    def sample(self) -> np.ndarray:
        """(window, position) of the tokens of the uniform sample, [token, 2]; none where a few tokens of a window
        cost as much as most of it, and no filter takes them."""
        size = 0 if self.sparse and self.plan["ablation"]["positions"] == "all" else self.plan["sample"]
        return uniform_sample(self.counted, size, self.plan["seed"])

    def is_probed(self, unit: int) -> bool:
        """Whether a unit measures the numerical floor and a fast engine's own error: the first one, and then one for
        every `UNIT_TOKENS` tokens; of those that have anything to measure exactly."""
        size: int = self.plan["windows_per_unit"] * self.windows.length
        return unit in self._exact_units[:: max(1, UNIT_TOKENS // size)]

    @cached_property
    def _exact_units(self) -> list[int]:
        """Units in which something is measured exactly."""
        if self.plan["phases"] is None:
            return list(range(len(self.units)))
        return [number for number, windows in enumerate(self.units) if self.counted[windows].any()]

    def batches(self, unit: int) -> list[np.ndarray]:
        """Windows of each batch of a unit; in two phases either all or none have exactly measured tokens, and those
        that have come in batches of a size of their own."""
        size, windows = self.plan["windows_per_batch"], self.units[unit]
        groups = [(windows, size)]
        if self.plan["phases"] is not None:
            exact = self.counted[windows].any(1)
            groups = [(windows[exact], self.plan["windows_per_exact_batch"]), (windows[~exact], size)]
        return [group[start : start + most] for group, most in groups for start in range(0, len(group), most)]


@dataclass(frozen=True)
class Job(Design):
    """A design with what computes it: what a worker works from.

    Attributes:
        model: the model.
        operator: the ablation.
        engine: computes the ablated runs.
        surrogates: estimate effects on all documents; none where all are measured exactly.
    """

    model: LanguageModel
    operator: Operator
    engine: Engine
    surrogates: Surrogates = field(default_factory=Surrogates)
