"""What every engine does, however it does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from torch import Tensor

from selfrepair.ablation.units import Head
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.clean import CleanRun
from selfrepair.model.language_model import LanguageModel
from selfrepair.progress import Advance, ignore

Settings = dict[str, str | int | bool | None]

Replacement = Callable[[int], Tensor]
"""By layer: what to put in place of every head's output, [window, position, head, head_dim]. Each head's entry
is used in that head's own ablated run."""


class Engine(Protocol):
    """Computes ablated runs and keeps their ledgers. Engines agree to rounding; the reference is the oracle."""

    name: str

    @property
    def exact(self) -> bool:
        """Whether it runs the model's own code at the model's own precision, so that nothing but rounding parts its
        effects from the model's. Every run compares a sample of what other engines compute with replay, prints the
        error beside the numbers, warns above 1% per token and fails far above that. An engine that does not say is
        not exact."""
        ...

    @property
    def settings(self) -> Settings:
        """What makes an engine of this name compute the same again, to the bit: kept in plans."""
        ...

    def sweep(
        self,
        model: LanguageModel,
        clean: CleanRun,
        units: Sequence[Head],
        replacement: Replacement,
        per_head: bool,
        advance: Advance = ignore,
    ) -> Iterator[Ledger]:
        """Ledgers of all units over the clean run's windows, in chunks of one layer's heads, in any order.

        Args:
            model: the model.
            clean: the clean run of a batch of windows.
            units: heads to ablate, one at a time.
            replacement: what to put in their places.
            per_head: whether ledgers get a line for every downstream head.
            advance: told of work as it is done, in blocks times ablated runs times windows.
        """
        ...
