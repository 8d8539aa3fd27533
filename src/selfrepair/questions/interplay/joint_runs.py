"""Runs in which several sets are ablated together, each measured once however many tables need it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.sites import Site
from selfrepair.errors import SelfRepairError
from selfrepair.questions.measuring.components import lies_in
from selfrepair.questions.measuring.prompt_effects import Array, PromptEffects, joined
from selfrepair.questions.question import Question

Subset = frozenset[int]
NOTHING: Subset = frozenset()


class JointRuns:
    """Ablated runs of subsets of some sets, by the sets' numbers.

    Attributes:
        question: model, prompts and settings.
        names: of the sets, in order.
        sets: their sites.
    """

    def __init__(self, question: Question, sets: Mapping[str, Sequence[Site]]) -> None:
        _require_disjoint(sets)
        self.question = question
        self.names = tuple(sets)
        self.sets = tuple(tuple(sites) for sites in sets.values())
        self._effects: PromptEffects | None = None

    @property
    def effects(self) -> PromptEffects:
        """All runs so far; there are some."""
        if self._effects is None:
            self.ask([NOTHING])
        assert self._effects is not None
        return self._effects

    def ask(self, subsets: Iterable[Subset], what: str = "Ablating sets together") -> None:
        """Measures those subsets that are not measured yet, in one sweep.

        Args:
            subsets: sets that are ablated together.
            what: is being done, for the progress bar.
        """
        known = set() if self._effects is None else set(self._effects.names)
        runs = {self.title(subset): self._run(subset) for subset in subsets}
        new = [run for title, run in runs.items() if title not in known]
        if new:
            measured = self.question.measure(new, what)
            self._effects = measured if self._effects is None else joined(self._effects, measured)

    def title(self, subset: Subset) -> str:
        """How a run is called."""
        return " and ".join(self.names[number] for number in sorted(subset)) or "nothing"

    def row(self, subset: Subset) -> int:
        """Which row of `effects` a subset has; it is measured if it has none yet."""
        self.ask([subset])
        return self.effects.row(self.title(subset))

    def total(self, subset: Subset) -> Array:
        """The subset's total effect, [prompt]."""
        row = self.row(subset)
        values: Array = self.effects.total_effect[row]
        return values

    def _run(self, subset: Subset) -> Intervention:
        sites = [site for number in sorted(subset) for site in self.sets[number]]
        return Intervention(tuple(sites), name=self.title(subset))


def _require_disjoint(sets: Mapping[str, Sequence[Site]]) -> None:
    for first, second in combinations(sets, 2):
        if any(_shared(site, sets[second]) for site in sets[first]):
            raise SelfRepairError(f"{first} and {second} share a site.", "Give sets without a common site.")


def _shared(site: Site, others: Sequence[Site]) -> bool:
    """Whether a site is one of the others or overlaps one; sites at different positions lie apart."""
    if site in others:
        return True
    return site.positions is None and lies_in(site, [other for other in others if other.positions is None])
