"""One forward of a model with everything kept that its identities are proved on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from selfrepair.model.language_model import LanguageModel
from selfrepair.model.taps import keeping, on_input, on_output, removing


@dataclass(frozen=True)
class WatchedForward:
    """One forward's inner tensors by layer, each [window, position, ...]."""

    residuals: dict[int, Tensor] = field(default_factory=dict)
    projection_inputs: dict[int, Tensor] = field(default_factory=dict)
    projections: dict[int, Tensor] = field(default_factory=dict)
    attention: dict[int, Tensor] = field(default_factory=dict)
    others: dict[int, list[tuple[float | Tensor, Tensor]]] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)
    ends: dict[str, Tensor] = field(default_factory=dict)

    @property
    def final(self) -> Tensor:
        """What the final norm reads."""
        return self.ends["final"]

    @property
    def logits(self) -> Tensor:
        """The model's own logits before any cap."""
        return self.ends["logits"]

    @property
    def scaled_logits(self) -> Tensor:
        """The same from a forward without the constants of final norm and unembedding."""
        return self.ends["scaled logits"]


def _keep_other(
    run: WatchedForward, layer: int, multiplier: float | Tensor, shape: tuple[int, ...], value: Tensor
) -> None:
    """Keeps a write of the first of two forwards."""
    if layer not in run.outputs:
        run.others.setdefault(layer, []).append((multiplier, value.reshape(shape).clone()))


def watched_forward(model: LanguageModel, tokens: Tensor) -> WatchedForward:
    """A forward of the model's own on `tokens`, and one without constants. Call under `model.running()`."""
    anatomy, shape, run = model.anatomy, (*tokens.shape, -1), WatchedForward()
    handles = [on_input(anatomy.final_norm_module, keeping(run.ends, "final"))]
    for layer, block in enumerate(anatomy.blocks):
        handles += [
            on_input(block.module, keeping(run.residuals, layer, shape)),
            on_input(block.projection, keeping(run.projection_inputs, layer, shape)),
            on_output(block.projection, keeping(run.projections, layer, shape)),
            on_output(block.attention_write, keeping(run.attention, layer, shape)),
            on_output(block.module, keeping(run.outputs, layer, shape)),
        ]
        others = [(module, block.own_multiplier(value, number)) for number, (module, value) in enumerate(block.mlps)]
        others.append((block.mixer_write, block.own_multiplier(block.mixer_multiplier, "mixer")))
        for module, multiplier in others:
            handles.append(on_output(module, partial(_keep_other, run, layer, multiplier, shape)))
    with removing(*handles):
        run.ends["logits"] = model.logits(tokens)
    run.ends["scaled logits"] = model.logits(tokens, constants=False)
    return run
