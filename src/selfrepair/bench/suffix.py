"""Runs from any layer upwards, on any residual stream: what sets of ablated and frozen sites do to the last logits.

An engine starts a run in its lowest replaced layer, on the clean stream. Co-ablation asks for one more site ablated
beside a set, for every site of the model; such a run shares all layers below with one that was made already: below the
set's first layer with the run of the site alone, below the site's layer with the run of the set. So runs start and
stop where they part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from selfrepair.ablation.interventions import Intervention, ports_of
from selfrepair.ablation.operators import Operator
from selfrepair.engine.accounts import Accounts, Patch
from selfrepair.engine.clean import CleanRun
from selfrepair.model.arguments import block_arguments
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.places import place_of
from selfrepair.model.ports import Port
from selfrepair.model.taps import Place, first_tensor, removing, with_input
from selfrepair.model.usual_layers import require_alone
from selfrepair.prompts.prompts import Prompts
from selfrepair.questions.measuring.batches import Batch
from selfrepair.questions.measuring.inputs import PromptInputs


@dataclass
class Suffixes:
    """A batch of prompts with its clean run, and runs from any layer of it.

    Attributes:
        model: the model. Call everything under `model.running()`.
        batch: the prompts.
        clean: the clean run, with outputs at all ports of `interventions`.
        replacements: by port, what replaced sites get.
    """

    model: LanguageModel
    batch: Batch
    clean: CleanRun
    replacements: dict[Port, Tensor] = field(repr=False)

    @classmethod
    def of(
        cls,
        model: LanguageModel,
        prompts: Prompts,
        batch: Batch,
        operator: Operator,
        interventions: Sequence[Intervention],
        means: dict[Port, Tensor],
        seed: int = 0,
    ) -> Suffixes:
        """The clean run of a batch, and what an operator puts in the place of some sites.

        Args:
            model: the model.
            prompts: all prompts, over which means are taken.
            batch: the prompts at hand.
            operator: its first draw is used.
            interventions: what will be replaced and frozen.
            means: means by port that have been taken, shared by all batches.
            seed: of donors.
        """
        ports = ports_of(interventions)
        clean = batch.clean(model, ports)
        inputs = PromptInputs(model, prompts, batch, ports, means, seed)
        replaced = {site.port for one in interventions for site in one.replaced}
        replacements = {
            port: operator.replacement(port, clean.outputs_at(port), inputs, 0).to(model.dtype) for port in replaced
        }
        return cls(model, batch, clean, replacements)

    def start(self, layer: int, runs: int) -> Tensor:
        """The clean stream before a layer, once for each of some runs, [run, prompt, position, width]."""
        return self.clean.residuals[layer].expand(runs, -1, -1, -1)

    def run(
        self,
        stream: Tensor,
        start: int,
        stop: int,
        interventions: Sequence[Intervention],
        before: list[Tensor] | None = None,
    ) -> Tensor:
        """Some layers of some runs.

        Args:
            stream: before layer `start`, [run, prompt, position, width].
            start: the first layer.
            stop: the first layer that is not run.
            interventions: one for each run; sites below `start` are taken as done.
            before: gets the stream before each layer, where given.

        Returns:
            The stream before layer `stop`.
        """
        if start >= stop:
            return stream
        require_alone(self.model.anatomy, "suffixes of many runs")
        runs = len(interventions)
        arguments = block_arguments(self.model, self.clean.tokens.repeat(runs, 1))
        hidden = stream.reshape(-1, *stream.shape[2:])
        with removing(*self._taps(start, stop, interventions)):
            for layer in range(start, stop):
                if before is not None:
                    before.append(hidden.reshape(runs, *self.clean.tokens.shape, -1))
                args, kwargs = with_input(arguments[layer], hidden)
                hidden = first_tensor(self.model.anatomy.blocks[layer].module(*args, **kwargs))
        return hidden.reshape(runs, *self.clean.tokens.shape, -1)

    def logits(self, stream: Tensor) -> Tensor:
        """The model's logits where the answer is read, [run, prompt, vocabulary], from the stream after all layers.

        Rows that the model switches off are left out.
        """
        readout = self.model.anatomy.unembedding
        final = self.clean.reading.at(stream)[:, :, 0]
        normed = first_tensor(self.model.anatomy.final_norm_module(final))
        weight = readout.weight if readout.masked is None else readout.weight[readout.counted]
        logits = normed @ weight.T
        if readout.bias is not None:
            logits = logits + readout.bias[readout.counted]
        return readout.capped(readout.multiplier * logits)

    def values(self, stream: Tensor, fixed: bool = False) -> Tensor:
        """What the prompts' readout says, less its constants, [run, prompt], from the stream after all layers.

        Args:
            stream: [run, prompt, position, width].
            fixed: whether the final norm divides by its clean scale.
        """
        final = self.clean.reading.at(stream)
        scale = self.clean.sigma if fixed else self.model.anatomy.final_norm.scale(final)
        return ((self.clean.u * final).sum(-1) / scale)[:, :, 0]

    def _taps(self, start: int, stop: int, interventions: Sequence[Intervention]) -> list[object]:
        accounts = Accounts(self.model.anatomy, self.clean, interventions, False)
        handles: list[object] = []
        for port in (port for layer in range(start, stop) for port in accounts.touched_ports(layer)):
            place = place_of(self.model, port)
            patch = accounts.patch(port, range(len(interventions)), place.entries)
            handles.append(place.tap(partial(self._patched, port, place, patch)))
        return handles

    def _patched(self, port: Port, place: Place, patch: Patch, value: Tensor) -> Tensor:
        """A port's module's tensor with what belongs in its places; the rest stays as it is, bit for bit."""
        kept = self.clean.outputs_at(port)
        outputs = place.split(value.reshape(len(patch.put), *self.clean.tokens.shape, -1))
        patched = patch.values(outputs, self.replacements.get(port, kept), kept)
        return place.changed(value, outputs, patched)
