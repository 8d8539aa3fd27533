"""What operators draw on, for one batch of windows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from selfrepair.engine.clean import head_outputs
from selfrepair.model.language_model import LanguageModel
from selfrepair.run.batches import tokens_of
from selfrepair.run.survey import Survey
from selfrepair.text import Windows


@dataclass
class BatchSource:
    """Corpus means from the survey; donors from clean runs of the donor windows, kept for all layers.

    Attributes:
        donors: [window, donor] donor windows of the batch's windows.
    """

    model: LanguageModel
    windows: Windows
    surveyed: Survey
    donors: np.ndarray
    _outputs: dict[int, tuple[Tensor, ...]] = field(default_factory=dict, repr=False)

    def mean(self, layer: int) -> Tensor:
        """See `selfrepair.ablation.operators.Source`."""
        return self.surveyed.means[layer].to(self.model.device)

    def position_mean(self, layer: int) -> Tensor:
        """See `selfrepair.ablation.operators.Source`."""
        return self.surveyed.position_means[layer].to(self.model.device)

    def donor(self, layer: int, draw: int) -> Tensor:
        """See `selfrepair.ablation.operators.Source`."""
        if draw not in self._outputs:
            tokens = tokens_of(self.windows, self.donors[:, draw], self.model)
            self._outputs[draw] = head_outputs(self.model, tokens)
        return self._outputs[draw][layer]
