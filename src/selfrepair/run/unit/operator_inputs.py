"""Means and donors that operators use, for one batch of windows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from selfrepair.ablation.interventions import ports_of
from selfrepair.engine.clean import port_outputs
from selfrepair.errors import SelfRepairError
from selfrepair.model.ports import Port
from selfrepair.run.planning.batch_size import tokens_of
from selfrepair.run.planning.job import Job
from selfrepair.run.storage.unit_file import Arrays
from selfrepair.run.unit.survey import port_name


@dataclass
class BatchSource:
    """Corpus means from the survey; donors from clean runs of the donor windows, kept for all layers.

    Attributes:
        job: the run.
        surveyed: the merged survey, from `thresholds`.
        windows: [window] the batch.
    """

    job: Job
    surveyed: Arrays
    windows: np.ndarray
    _outputs: dict[int, dict[Port, Tensor]] = field(default_factory=dict, repr=False)

    def mean(self, port: Port) -> Tensor:
        """See `selfrepair.ablation.operators.Source`."""
        return torch.from_numpy(self.surveyed[f"means/{port_name(port)}"]).to(self.job.model.device)

    def position_mean(self, port: Port) -> Tensor:
        """See `selfrepair.ablation.operators.Source`."""
        name = f"position_means/{port_name(port)}"
        if name not in self.surveyed:
            raise SelfRepairError(
                f"The operator '{self.job.operator.name}' uses means by position, which were not collected.",
                "Name them among its `needs`: needs = frozenset({POSITION_MEANS}).",
            )
        return torch.from_numpy(self.surveyed[name]).to(self.job.model.device)

    def donor(self, port: Port, draw: int) -> Tensor:
        """See `selfrepair.ablation.operators.Source`."""
        if draw not in self._outputs:
            tokens = tokens_of(self.job.windows, self.job.donors[self.windows, draw], self.job.model)
            heads = [Port(layer, "heads") for layer in range(self.job.model.anatomy.layers)]
            ports = heads if self.job.of_heads else ports_of(self.job.interventions)
            self._outputs[draw] = port_outputs(self.job.model, tokens, ports)
        return self._outputs[draw][port]
