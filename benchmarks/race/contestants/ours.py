"""Our own engines, through their contract, with the complete ledger: every downstream head has its line."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from race.contestants import versions
from race.task import Task
from selfrepair.ablation.interventions import each
from selfrepair.ablation.sites import Head
from selfrepair.effects.ledger import Ledger
from selfrepair.engine import Engine, choice, engine_named
from selfrepair.engine.clean import clean_run
from selfrepair.model.ports import Port

_LONG_RUN = 1e5  # tokens, whose means have small errors beside which a bias has to be smaller still


class Ours:
    """An engine of ours. The clean run belongs to the sweep and is timed with it.

    Args:
        name: `delta` (precision by trial), `delta-int8`, `delta-bfloat16`, `delta-full`, `replay` or `reference`.
        task: what is to be done.
    """

    def __init__(self, name: str, task: Task) -> None:
        self.task = task
        self.engine, self.reason = _settled(name, task)
        self.unbalanced = 0.0  # logits by which a ledger failed to close, at worst

    def sweep(self, units: tuple[Head, ...]) -> Tensor:
        """See `race.contestants.Contestant`."""
        task, where = self.task, {one: index for index, one in enumerate(each(units))}
        effects = task.tokens.new_empty(
            (len(units), task.tokens.shape[0], task.tokens.shape[1] - 1), dtype=task.model.dtype
        )
        self.unbalanced = 0.0
        with task.model.running():
            clean = clean_run(task.model, task.tokens)
            for ledger in self.engine.sweep(task.model, clean, each(units), self._replacement, per_component=True):
                self._check(ledger)
                for row, intervention in enumerate(ledger.interventions):
                    effects[where[intervention]] = ledger.total_effect[row]
        return effects

    def facts(self) -> dict[str, Any]:
        """See `race.contestants.Contestant`."""
        precision = getattr(self.engine, "precision", None) or self.task.model.dtype
        return {
            "precision": str(precision).removeprefix("torch."),
            "settings": self.engine.settings,
            "reason": self.reason,
            "ledger": "complete",
            "unbalanced": self.unbalanced,
            "versions": versions("selfrepair"),
        }

    def _replacement(self, port: Port) -> Tensor:
        return self.task.donated[port.layer] - self.task.model.anatomy.blocks[port.layer].value_constant

    def _check(self, ledger: Ledger) -> None:
        """Keeps how far, at worst, a ledger was from closing; every line of it has to be there."""
        assert ledger.by_head is not None
        lines = ledger.by_head.sum((-1, -2)) - ledger.lines["heads"]
        worst = torch.maximum(ledger.residual.abs().max(), lines.abs().max())
        self.unbalanced = max(self.unbalanced, float(worst))


def _settled(name: str, task: Task) -> tuple[Engine, str]:
    """An engine with the settings that a long run would get, and why; compiling happens in the warm-up."""
    family, _, precision = name.partition("-")
    if family != "delta":
        return engine_named(name), "as asked for"
    with task.model.running():
        long = choice.RunSize(blocks=float("inf"), predictions=_LONG_RUN)
        settled = choice.delta(task.model, task.tokens, list(task.units), long, precision or None)
    return settled.engine, settled.reason
