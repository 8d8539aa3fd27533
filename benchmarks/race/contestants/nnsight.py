"""nnsight 0.8: a trace per head, in which the projection's input is replaced and the logits are read."""

from __future__ import annotations

import copy
from typing import Any

import torch
from nnsight import NNsight
from torch import Tensor

from race.contestants import versions
from race.task import Task
from selfrepair.ablation.sites import Head


class Peer:
    """nnsight around a copy of the network; it serves any torch module, so no tokenizer is needed."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.model = NNsight(copy.deepcopy(task.network))
        layers = {unit.layer for unit in task.units}
        self.projections = {layer: self.model.get(task.projection_name(layer)) for layer in layers}

    @torch.inference_mode()
    def sweep(self, units: tuple[Head, ...]) -> Tensor:
        """See `race.contestants.Contestant`."""
        clean = self._clean()
        return torch.stack([self._ablated(unit) - clean for unit in units])

    def facts(self) -> dict[str, Any]:
        """See `race.contestants.Contestant`."""
        return {"precision": "float32", "ledger": "no", "versions": versions("nnsight")}

    def _clean(self) -> Tensor:
        task, model = self.task, self.model
        with model.trace(task.tokens, use_cache=False):
            targets = task.target_logits(model.output.logits).save()
        return targets

    def _ablated(self, unit: Head) -> Tensor:
        task, model, projection = self.task, self.model, self.projections[unit.layer]
        with model.trace(task.tokens, use_cache=False):
            projection.input = task.patched(projection.input, unit)
            targets = task.target_logits(model.output.logits).save()
        return targets
