"""What operators draw on when they ablate on prompts: twins, other prompts, means over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from selfrepair.ablation.operators import OPERATORS, Operator, Source, operator, require_operator
from selfrepair.choices import operators
from selfrepair.engine.clean import CleanRun
from selfrepair.engine.contract import Replacement
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port
from selfrepair.prompts.prompts import Prompts
from selfrepair.questions.measuring.batches import Batch, batches
from selfrepair.questions.measuring.kept_forwards import outputs_of
from selfrepair.questions.measuring.placebo import Placebo


@dataclass(frozen=True)
class Corrupt(Operator):
    """The site's output on the prompt's corrupt twin, at the same position."""

    name: str = "corrupt"

    def replacement(self, port: Port, clean: Tensor, source: Source, draw: int) -> Tensor:
        """See `Operator.replacement`."""
        assert isinstance(source, PromptInputs)
        return source.twin(port)


def operator_for(
    name: str | Operator | None, prompts: Prompts, donors: int = 1, model: LanguageModel | None = None, seed: int = 0
) -> Operator:
    """The operator of that name; by default `corrupt` where the prompts have twins, else `resample`.

    Args:
        name: of the ablation; `placebo` matches the default one.
        prompts: what it is used on.
        donors: under `resample`.
        model: whose output maps `placebo` needs.
        seed: of the placebo.

    Raises:
        SelfRepairError: `corrupt` without twins, or a name that stands for nothing here.
    """
    if name is not None and not isinstance(name, str):
        return require_operator(name)
    chosen = name or ("corrupt" if prompts.corrupt is not None else "resample")
    if chosen == "corrupt" and prompts.corrupt is None:
        raise SelfRepairError(
            "Ablation 'corrupt' puts in what a head writes on the prompt's corrupt twin; not every prompt has one.",
            "Give each prompt a twin with as many tokens, or choose resample, mean or zero.",
        )
    if chosen == "placebo" and model is not None:
        return Placebo(operator_for(None, prompts, donors), model, seed=seed)
    if chosen == "corrupt":
        return Corrupt()
    if chosen not in OPERATORS:
        there = ", ".join(("corrupt", *operators(), "placebo"))
        raise SelfRepairError(f"No ablation on prompts is called '{chosen}'.", f"There are: {there}.")
    return operator(chosen, donors if chosen == "resample" else 1)


@dataclass
class PromptInputs:
    """A `Source` for one batch of prompts.

    Attributes:
        model: the model.
        all_prompts: the prompts of the whole measurement, over which means are taken.
        batch: the prompts at hand.
        ports: at which something is replaced.
        means: means by port that have been taken, shared by all batches.
        seed: of the donors' draw.
    """

    model: LanguageModel
    all_prompts: Prompts
    batch: Batch
    ports: frozenset[Port]
    means: dict[Port, Tensor]
    seed: int = 0
    _donors: dict[int, Mapping[Port, Tensor]] = field(default_factory=dict)

    def mean(self, port: Port) -> Tensor:
        """See `Source.mean`: over all positions of all prompts."""
        if port not in self.means:
            self.means.update(mean_outputs(self.model, self.all_prompts, self.ports))
        return self.means[port]

    def position_mean(self, port: Port) -> Tensor:
        """See `Source.position_mean`; prompts of other lengths have other positions.

        Raises:
            SelfRepairError: prompts of several lengths.
        """
        lengths = np.unique(self.all_prompts.lengths)
        if len(lengths) > 1:
            raise SelfRepairError(
                f"Means by position need prompts of one length; these have {lengths[0]} to {lengths[-1]} tokens.",
                "Choose mean, zero, resample or corrupt.",
            )
        totals = [
            outputs_of(self.model, batch.tokens, [port])[port].sum(0)
            for batch in batches(self.model, self.all_prompts, ())
        ]
        return torch.stack(totals).sum(0) / len(self.all_prompts)

    def donor(self, port: Port, draw: int) -> Tensor:
        """See `Source.donor`: outputs on another prompt of the same length, with another answer if there is one."""
        if draw not in self._donors:
            tokens = self._tokens_of_donors(draw)
            self._donors[draw] = outputs_of(self.model, tokens, self.ports)
        return self._donors[draw][port]

    def twin(self, port: Port) -> Tensor:
        """Outputs on the corrupt twins, [prompt, position, entry, size]."""
        assert self.batch.twins is not None
        if -1 not in self._donors:
            self._donors[-1] = outputs_of(self.model, self.batch.twins, self.ports)
        return self._donors[-1][port]

    def _tokens_of_donors(self, draw: int) -> Tensor:
        chosen = donors_of(self.all_prompts, self.batch.prompts, draw, self.seed)
        tokens = self.all_prompts.tokens[chosen, : self.batch.tokens.shape[1]]
        return torch.from_numpy(np.ascontiguousarray(tokens, np.int64)).to(self.model.device)


def replacement_of(operator: Operator, clean: CleanRun, inputs: PromptInputs, draw: int) -> Replacement:
    """What an operator puts in the place of a batch's outputs, in one draw."""
    return lambda port: operator.replacement(port, clean.outputs_at(port), inputs, draw).to(inputs.model.dtype)


def donors_of(prompts: Prompts, chosen: np.ndarray, draw: int, seed: int) -> np.ndarray:
    """A donor for each prompt: another one of the same length, with another answer where there is one.

    What a prompt gets depends on the prompts and the seed alone, not on how they are batched.

    Args:
        prompts: all prompts.
        chosen: int [prompt], for which.
        draw: number of the draw.
        seed: of the draws.

    Raises:
        SelfRepairError: no other prompt is as long.
    """
    found = np.empty(len(chosen), np.int64)
    for place, prompt in enumerate(chosen.tolist()):
        alike = np.flatnonzero(prompts.lengths == prompts.lengths[prompt])
        others = [one for one in alike.tolist() if one != prompt]
        if not others:
            raise SelfRepairError(
                f"Prompt '{prompts.ids[prompt]}' has {prompts.lengths[prompt]} tokens, as no other prompt has: "
                "there is none to resample from.",
                "Give corrupt twins, or choose the ablation mean or zero.",
            )
        different = [one for one in others if prompts.answers[one] != prompts.answers[prompt]]
        order = np.random.default_rng((seed, prompt)).permutation(different or others)
        found[place] = order[draw % len(order)]
    return found


def mean_outputs(model: LanguageModel, prompts: Prompts, ports: frozenset[Port]) -> dict[Port, Tensor]:
    """Mean output at some ports over all positions of all prompts, [entry, size] each."""
    sums: dict[Port, Tensor] = {}
    positions = 0
    for batch in batches(model, prompts, ()):
        positions += batch.tokens.numel()
        for port, outputs in outputs_of(model, batch.tokens, ports).items():
            total = outputs.double().sum((0, 1))
            sums[port] = sums[port] + total if port in sums else total
    return {port: total / positions for port, total in sums.items()}
