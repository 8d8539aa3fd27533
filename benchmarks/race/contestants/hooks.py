"""The plain loop that one writes by hand: a full forward of the Hugging Face model per head, with one hook."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from race.contestants import versions
from race.task import Task
from selfrepair.ablation.sites import Head


class Peer:
    """One forward per head; a pre-hook on the attention's output projection replaces the head's slice."""

    def __init__(self, task: Task) -> None:
        self.task = task

    @torch.inference_mode()
    def sweep(self, units: tuple[Head, ...]) -> Tensor:
        """See `race.contestants.Contestant`."""
        clean = self._targets()
        return torch.stack([self._ablated(unit) - clean for unit in units])

    def facts(self) -> dict[str, Any]:
        """See `race.contestants.Contestant`."""
        return {"precision": "float32", "ledger": "no", "versions": versions()}

    def _targets(self) -> Tensor:
        return self.task.target_logits(self.task.network(self.task.tokens, use_cache=False).logits)

    def _ablated(self, unit: Head) -> Tensor:
        def put(_module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
            return (self.task.patched(inputs[0], unit),)

        handle = self.task.model.anatomy.blocks[unit.layer].projection.register_forward_pre_hook(put)
        try:
            return self._targets()
        finally:
            handle.remove()
