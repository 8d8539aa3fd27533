"""The contract of engines: from a clean run and interventions to ledgers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from torch import Tensor

from selfrepair.ablation.interventions import Intervention
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.clean import CleanRun
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port
from selfrepair.progress import Advance, ignore

Settings = dict[str, str | int | bool | None]

Replacement = Callable[[Port], Tensor]
"""What to put in the place of a port's outputs, [window, position, entry, size]; heads' [window, position, head,
head_dim]. An ablated run takes the entries of the sites that it replaces. It may run the model: engines call it
while no hook of theirs is in place."""


def is_exact(engine: Engine) -> bool:
    """`Engine.exact`; an engine without it is not exact."""
    return bool(getattr(engine, "exact", False))


def moves_together(engine: Engine) -> bool:
    """Whether an engine's runs of a window share work, so that they should be swept in one call: its attribute
    `together`; in an engine without it, runs have nothing in common."""
    return bool(getattr(engine, "together", False))


class Engine(Protocol):
    """Computes ablated runs and keeps their ledgers. Engines agree to rounding; the reference is the oracle.

    Example:
        >>> [(engine.name, engine.exact) for engine in (ReferenceEngine(), ReplayEngine(), DeltaEngine())]
        [('reference', True), ('replay', True), ('delta', False)]
    """

    name: str

    @property
    def exact(self) -> bool:
        """Whether it runs the model's own code at the model's own precision, so that nothing but rounding parts its
        effects from the model's. Every run compares a sample of what other engines compute with replay, prints the
        error beside the numbers, warns above 1% per token and fails far above that. An engine without it is
        not exact."""
        ...

    @property
    def settings(self) -> Settings:
        """Settings with which an engine of this name computes the same again, bit for bit; kept in plans."""
        ...

    def sweep(
        self,
        model: LanguageModel,
        clean: CleanRun,
        interventions: Sequence[Intervention],
        replacement: Replacement,
        per_component: bool,
        advance: Advance = ignore,
    ) -> Iterator[Ledger]:
        """Ledgers of all interventions over the clean run's windows, in any order, in chunks of those that start in
        the same layer.

        Args:
            model: the model.
            clean: the clean run of a batch of windows; it has the outputs at all ports of the interventions.
            interventions: one ablated run each. Sites are replaced and frozen in block order: what lies downstream of
                them in the same run sees the change.
            replacement: what to put in the replaced sites' places.
            per_component: whether ledgers get a line for every downstream head.
            advance: called with the work done, in blocks times ablated runs times windows.

        Raises:
            SelfRepairError: outside `model.running()`, or sites that the model does not have.
        """
        ...
