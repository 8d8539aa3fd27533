"""How a question is put to the model: what replaces ablated sites, and how many tests there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.operators import Operator
from selfrepair.audit.prompt_effects import Array, PromptEffects, prompt_effects
from selfrepair.audit.responses import response_sizes
from selfrepair.engine.contract import Engine
from selfrepair.model.language_model import LanguageModel
from selfrepair.progress import Advance, ignore
from selfrepair.prompts.prompts import Prompts


@dataclass(frozen=True, eq=False)
class AuditSettings:
    """How a question is put to the model.

    Attributes:
        ablation: what replaced sites get; see `prompt_effects`.
        top: components that are freeze tested for their lines; four more are for their responses.
        controls: components like them that are frozen for comparison.
        donors: other prompts that each one draws on under `resample`.
        seed: of donors and control sets.
        engine: computes the ablated runs; replay by default.
        rate: false discovery rate of the list of what covers.
        least_share: of what the ablated sites wrote, that a component has to cover to be called missing.
        operators: ablations that an audit repeats its main rows under; all that the prompts allow by default.
    """

    ablation: str | Operator | None = None
    top: int = 8
    controls: int = 20
    donors: int = 1
    seed: int = 0
    engine: Engine | None = None
    rate: float = 0.05
    least_share: float = 0.05
    operators: tuple[str, ...] | None = None

    def measure(
        self,
        model: LanguageModel,
        prompts: Prompts,
        interventions: Sequence[Intervention],
        advance: Advance = ignore,
        ablation: str | None = None,
    ) -> PromptEffects:
        """Ledgers of some interventions as these settings have them, or under another ablation."""
        return prompt_effects(
            model,
            prompts,
            interventions,
            ablation or self.ablation,
            donors=self.donors,
            seed=self.seed,
            engine=self.engine,
            advance=advance,
        )

    def responses(self, model: LanguageModel, prompts: Prompts, intervention: Intervention) -> Array:
        """Sizes of all components' responses to an intervention, [component]."""
        return response_sizes(model, prompts, intervention, self.ablation, donors=self.donors, seed=self.seed)
