"""A model, prompts and settings: what every question is put to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.operators import Operator, Unchanged
from selfrepair.engine.contract import Engine
from selfrepair.engine.replay import ReplayEngine
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.usual_layers import require_plain_stream
from selfrepair.progress import progress
from selfrepair.prompts.prompts import Prompts
from selfrepair.questions.measuring.components import Components
from selfrepair.questions.measuring.inputs import operator_for
from selfrepair.questions.measuring.kept_forwards import KeptForwards
from selfrepair.questions.measuring.placebo import Placebo
from selfrepair.questions.measuring.prompt_effects import Array, PromptEffects, prompt_effects
from selfrepair.questions.measuring.responses import response_sizes
from selfrepair.questions.measuring.sampling import Sampling
from selfrepair.questions.question_settings import AuditSettings

_FLOOR_PROMPTS = 8


@dataclass(frozen=True, eq=False)
class Question:
    """A model, prompts and settings.

    Attributes:
        model: the model.
        prompts: with their answers.
        settings: of the ablation and the tests.
        progress: whether progress is shown.
    """

    model: LanguageModel
    prompts: Prompts
    settings: AuditSettings = field(default_factory=AuditSettings)
    progress: bool = False

    @cached_property
    def engine(self) -> Engine:
        """What computes all ablated runs: one engine, so that the fold of runs is found once."""
        return self.settings.engine or ReplayEngine()

    @cached_property
    def forwards(self) -> KeptForwards:
        """Forwards of the unchanged prompts, which all measurements share."""
        return KeptForwards()

    @property
    def components(self) -> Components:
        """Of the model.

        Raises:
            SelfRepairError: its layers share more than a plain residual stream.
        """
        require_plain_stream(self.model.anatomy, "questions on prompts")
        return Components.of(self.model.anatomy)

    @property
    def sampling(self) -> Sampling:
        """Of the prompts."""
        return Sampling.of(self.prompts)

    def measure(
        self, interventions: Sequence[Intervention], what: str = "Ablating", ablation: str | Operator | None = None
    ) -> PromptEffects:
        """Ledgers of some interventions, under the settings' ablation or another one.

        Args:
            interventions: the ablated runs.
            what: is being done, for the progress bar.
            ablation: what replaced sites get, if not as the settings say.
        """
        work = len(interventions) * len(self.prompts)
        with self.forwards.used(), progress(what, work, self.progress, "ablated prompts") as meter:
            return prompt_effects(
                self.model,
                self.prompts,
                interventions,
                ablation or self.settings.ablation,
                donors=self.settings.donors,
                seed=self.settings.seed,
                engine=self.engine,
                metric=self.settings.metric,
                exact=self.settings.exact,
                advance=meter,
            )

    @property
    def placebo(self) -> Placebo:
        """Random replacements that change as much as the settings' ablation does."""
        settings = self.settings
        base = operator_for(settings.ablation, self.prompts, settings.donors, self.model, settings.seed)
        return Placebo(base, self.model, seed=settings.seed)

    def responses(self, intervention: Intervention) -> Array:
        """Sizes of all components' responses to an intervention, [component]."""
        settings = self.settings
        with self.forwards.used():
            return response_sizes(
                *(self.model, self.prompts, intervention, settings.ablation),
                donors=settings.donors,
                seed=settings.seed,
                metric=settings.metric,
            )

    def floor(self, intervention: Intervention) -> float:
        """The numerical floor: the largest effect of putting in what is there already, in logits."""
        some = self.prompts.select(np.arange(min(len(self.prompts), _FLOOR_PROMPTS)))
        settings = self.settings
        effects = prompt_effects(
            self.model, some, [intervention], Unchanged(), engine=self.engine, metric=settings.metric
        )
        return float(np.abs(effects.total_effect).max(initial=0))
