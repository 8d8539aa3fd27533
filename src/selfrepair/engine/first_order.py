"""First-order effects of ablating heads, summed over the predictions of a text: a few backward passes for all heads.

To first order in the change of a head's output, the sum of an effect over predictions changes by that sum's gradient
times the change, added up over positions. One backward pass gives the gradient at every head of every layer, so all
heads together cost what two or three ablated runs do: Nanda, Attribution Patching (2023); Syed, Rager and Conmy,
Attribution Patching Outperforms Automated Circuit Discovery (2023). Each line of the ledger but the heads' has a pass
of its own; what is left of the self-repair is the heads' line, so that the ledger closes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.sites import Head
from selfrepair.engine.beginnings import beginning_of
from selfrepair.engine.clean import CleanRun
from selfrepair.engine.contract import Replacement
from selfrepair.engine.own_position.single_positions import require_single_heads
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port
from selfrepair.model.taps import on_input, on_output, removing

TOTAL, NORM, MLPS, MIXERS, POST_NORMS = "total_effect", "norm", "mlps", "mixers", "post_norms"
_AT_ONCE = 1024  # positions whose activations are in memory at once


def first_order_sums(
    model: LanguageModel,
    clean: CleanRun,
    interventions: Sequence[Intervention],
    replacement: Replacement,
    groups: Tensor,
) -> dict[str, Tensor]:
    """Sums of first-order effects over groups of each window's predictions.

    Example:
        >>> every = torch.ones(1, 2, 11, dtype=torch.bool)  # one group: all predictions of both windows
        >>> with model.running():
        ...     sums = first_order_sums(model, clean, each([Head(0, 1)]), donors.__getitem__, every)
        >>> sums["total_effect"].shape  # [intervention, group, window]
        torch.Size([1, 1, 2])

    Args:
        model: the model. Call under `model.running()`.
        clean: the clean run of a batch of windows; it reads next tokens.
        interventions: single heads.
        replacement: what to put in the heads' places.
        groups: predictions that are added up, bool [group, window, P]; of another document of a window, another group.

    Returns:
        `total_effect`, `norm`, `mlps`, and where the model has them `mixers` and `post_norms`, each [intervention,
        group, window] in logits.
    """
    model.require_running("first_order_sums")
    require_single_heads(interventions)
    step = max(1, _AT_ONCE // clean.tokens.shape[1])
    parts = []
    for start in range(0, len(clean.tokens), step):
        windows = range(start, min(start + step, len(clean.tokens)))
        part = beginning_of(clean, windows)
        changes = {
            layer: replacement(Port(layer, "heads"))[list(windows)] - part.head_outputs[layer]
            for layer in sorted({_head(run).layer for run in interventions})
        }
        parts.append(_of_windows(model, part, interventions, changes, groups[:, list(windows)]))
    return {name: torch.cat([part[name] for part in parts], -1) for name in parts[0]}


def _of_windows(
    model: LanguageModel,
    clean: CleanRun,
    interventions: Sequence[Intervention],
    changes: dict[int, Tensor],
    groups: Tensor,
) -> dict[str, Tensor]:
    """The same of windows whose activations fit in memory.

    Args:
        model: the model.
        clean: the clean run.
        interventions: single heads.
        changes: replacement less clean output, by layer [window, position, head, head_dim].
        groups: bool [group, window, P].
    """
    sums: dict[str, list[Tensor]] = {}
    with torch.inference_mode(False), torch.enable_grad():
        recorded = _Recorded(model, clean)
        recorded.run()
        for group in groups.to(clean.sigma.device):
            for name, value in recorded.lines(group.clone()):
                gradients = recorded.gradients(value)
                worth = {
                    layer: (gradients[layer] * change.clone()).sum((1, 3)).detach() for layer, change in changes.items()
                }
                per_run = [worth[layer][:, head] for layer, head in map(_head, interventions)]
                sums.setdefault(name, []).append(torch.stack(per_run))
    return {name: torch.stack(values, 1) for name, values in sums.items()}


@dataclass
class _Recorded:
    """A forward whose lines can be differentiated by what is added to any head's output.

    Attributes:
        model: the model.
        clean: the clean run.
    """

    model: LanguageModel
    clean: CleanRun
    _added: dict[int, Tensor] = field(default_factory=dict)
    _final: Tensor | None = None
    _worth: dict[str, Tensor] = field(default_factory=dict)  # sums over layers, [window, P]

    def run(self) -> None:
        """The forward."""
        handles: list[Any] = [on_input(self.model.anatomy.final_norm_module, self._keep_final)]
        for layer, block in enumerate(self.model.anatomy.blocks):
            if block.heads:
                handles.append(block.heads_place.tap(partial(self._add, layer, block.heads)))
            direction = self.clean.direction
            for number, (module, multiplier) in enumerate(block.mlps):
                along = block.with_gain(direction, number)
                handles.append(on_output(module, partial(self._book, MLPS, multiplier, along)))
            if block.has_mixer:
                along = block.with_gain(direction, "mixer")
                booking = partial(self._book, MIXERS, block.mixer_multiplier, along)
                handles.append(on_output(block.mixer_write, booking))
            if block.attention_norm is not None:
                along = block.with_gain(direction, "attention")
                whole = partial(self._book, POST_NORMS, block.attention_multiplier, along)
                through = partial(self._book, POST_NORMS, -1.0, self.clean.projection_directions[layer])
                handles += [on_output(block.attention_write, whole), on_output(block.projection, through)]
        with removing(*handles):
            self.model.run_trunk(self.clean.tokens.clone())

    def lines(self, group: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The lines' names and sums over some predictions, bool [window, P]."""
        clean, norm = self.clean, self.model.anatomy.final_norm
        assert self._final is not None
        final = clean.reading.at(self._final)
        sigma = norm.scale(final)
        yield TOTAL, (((clean.u.clone() * final).sum(-1) / sigma)[group]).sum()
        yield NORM, (-(sigma / clean.sigma.clone()) * clean.scaled_logit.clone())[group].sum()
        for name, worth in self._worth.items():
            yield name, worth[group].sum()

    def gradients(self, value: Tensor) -> dict[int, Tensor]:
        """The gradient of a line at every head's output, by layer [window, position, head, head_dim]."""
        found = torch.autograd.grad(value, list(self._added.values()), retain_graph=True, allow_unused=True)
        pairs = zip(self._added.items(), found, strict=True)
        return {layer: torch.zeros_like(added) if grad is None else grad for (layer, added), grad in pairs}

    def _keep_final(self, value: Tensor) -> None:
        self._final = value.reshape(*self.clean.tokens.shape, -1)

    def _add(self, layer: int, heads: int, value: Tensor) -> Tensor:
        flat = value.reshape(*self.clean.tokens.shape, heads, -1)
        self._added[layer] = torch.zeros_like(flat, requires_grad=True)
        return value + self._added[layer].reshape(value.shape)

    def _book(self, name: str, multiplier: float, direction: Tensor, value: Tensor) -> None:
        write = self.clean.reading.at(value.reshape(*self.clean.tokens.shape, -1))
        worth = multiplier * (write * direction.clone()).sum(-1)
        self._worth[name] = worth + self._worth[name] if name in self._worth else worth


def _head(intervention: Intervention) -> Head:
    (site,) = intervention.replaced
    assert isinstance(site, Head)
    return site
