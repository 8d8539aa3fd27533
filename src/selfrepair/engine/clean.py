"""The clean run of a batch of windows: everything that all ablated runs of the batch share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from selfrepair.model.directions import target_directions
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.own_forward import own_forward, require_own_logits, require_own_stream, telling_window
from selfrepair.model.proofs import tolerance
from selfrepair.model.taps import keeping, on_input, on_output, removing


@dataclass(frozen=True)
class CleanRun:
    """A batch of windows through the model, untouched. P = positions - 1 predictions per window.

    Attributes:
        tokens: [window, position].
        residuals: per layer, the block's input [window, position, width].
        final: what the final norm reads [window, position, width].
        head_outputs: per layer, every head's output before W_O [window, position, head, head_dim], the value
            constant left out.
        direction: `v = u / sigma` [window, P, width]: what a write is worth in logits, at the clean scale.
        head_directions: per layer, `v` seen from the projection's input, [window, P, head, head_dim].
        projection_directions: per layer, `v` seen from the projection's output (differs from `direction` where
            a norm or a multiplier lies between) [window, P, width].
        attention: direct effect of each layer's attention write, [layer, window, P], biases included.
        projections: the same through clean norm scales only (equal where no norm lies behind attention).
        mlps: direct effect of each layer's MLP write, [layer, window, P].
        sigma: the final norm's scale [window, P].
        scaled_logit: the part of the target's centred logit that the scale divides, `u . residual / sigma`, [window,
            P]. Effects are differences of it; `beta`, the rest, may be huge, and is never added before.
        u: the target's direction [window, P, width].
        beta: the part of the centred logit that no scale divides [window, P].
    """

    tokens: Tensor
    residuals: tuple[Tensor, ...]
    final: Tensor
    head_outputs: tuple[Tensor, ...]
    direction: Tensor
    head_directions: tuple[Tensor, ...]
    projection_directions: tuple[Tensor, ...]
    attention: Tensor
    projections: Tensor
    mlps: Tensor
    sigma: Tensor
    scaled_logit: Tensor
    u: Tensor
    beta: Tensor

    @property
    def logit(self) -> Tensor:
        """The target's centred logit [window, P], to look at: where `beta` is huge, effects drown in it."""
        return self.scaled_logit + self.beta

    def direct_effects(self, layer: int, head_outputs: Tensor | None = None) -> Tensor:
        """Direct effects of a layer's heads, [..., window, P, head].

        Args:
            layer: which layer.
            head_outputs: outputs to value, [..., window, position, head, head_dim]; the clean ones by default.
        """
        outputs = self.head_outputs[layer] if head_outputs is None else head_outputs
        return (outputs[..., :-1, :, :] * self.head_directions[layer]).sum(-1)


@dataclass
class _Seen:
    residual: Tensor
    projection_input: Tensor
    projection_output: Tensor
    mlp_write: Tensor
    normed: Tensor | None = None

    @property
    def attention_write(self) -> Tensor:
        return self.projection_output if self.normed is None else self.normed


def clean_run(model: LanguageModel, tokens: Tensor) -> CleanRun:
    """Runs `tokens` [window, position] through the trunk and values every component's write.

    Call under `model.running()`.
    """
    anatomy = model.anatomy
    seen, last = _watch(model, tokens)
    targets = target_directions(anatomy, tokens[:, 1:])
    final = last[:, :-1]
    sigma = anatomy.final_norm.scale(final)
    direction = targets.u / sigma.unsqueeze(-1)
    head_directions, projection_directions, lines = [], [], []
    for block, layer in zip(anatomy.blocks, seen, strict=True):
        inward = block.through_norm(direction)
        if block.attention_norm is not None:
            inward = inward / block.attention_norm.scale(layer.projection_output[:, :-1]).unsqueeze(-1)
        projection_directions.append(inward)
        head_directions.append(torch.einsum("bpd,hed->bphe", inward, block.output_weight))
        attention = block.attention_multiplier * worth(layer.attention_write, direction)
        mlp = block.mlp_multiplier * worth(layer.mlp_write, direction)
        lines.append(torch.stack([attention, worth(layer.projection_output, inward), mlp]))
    attention, projections, mlps = torch.stack(lines, 1)
    return CleanRun(
        tokens=tokens,
        residuals=tuple(layer.residual for layer in seen),
        final=last,
        head_outputs=tuple(
            block.split_heads(layer.projection_input) for block, layer in zip(anatomy.blocks, seen, strict=True)
        ),
        direction=direction,
        head_directions=tuple(head_directions),
        projection_directions=tuple(projection_directions),
        attention=attention,
        projections=projections,
        mlps=mlps,
        sigma=sigma,
        scaled_logit=(targets.u * final).sum(-1) / sigma,
        u=targets.u,
        beta=targets.beta,
    )


def require_own_forward(model: LanguageModel, clean: CleanRun, real: Tensor) -> None:
    """Proves on one window of a batch, the one with the most special tokens, that the clean run is the model's own.

    Call under `model.running()`.

    Args:
        model: the model.
        clean: of the batch.
        real: bool [window, position], tokens that are no padding.

    Raises:
        RefusedModel: the model's own forward has another final stream, or other centred logits.
    """
    window = telling_window(model, clean.tokens)
    one, allowed = slice(window, window + 1), tolerance(model.dtype)
    own = own_forward(model, clean.tokens[one])
    require_own_stream(model, clean.tokens, clean.final, {window: own.stream[0]}, real, allowed)
    require_own_logits(model, clean.final[one], own, real[one], allowed)


def head_outputs(model: LanguageModel, tokens: Tensor) -> tuple[Tensor, ...]:
    """Every layer's head outputs on `tokens`, as in `CleanRun.head_outputs`. Call under `model.running()`."""
    blocks = model.anatomy.blocks
    seen: dict[int, Tensor] = {}
    shape = (*tokens.shape, -1)
    handles = [on_input(block.projection, keeping(seen, layer, shape)) for layer, block in enumerate(blocks)]
    with removing(*handles):
        model.run_trunk(tokens)
    return tuple(block.split_heads(seen[layer]) for layer, block in enumerate(blocks))


def worth(write: Tensor, direction: Tensor) -> Tensor:
    """`write . direction` at every prediction position.

    Args:
        write: [..., window, position, width]; the last position predicts nothing and is left out.
        direction: [window, P, width].
    """
    return (write[..., :-1, :] * direction).sum(-1)


def _watch(model: LanguageModel, tokens: Tensor) -> tuple[list[_Seen], Tensor]:
    """All blocks' inner tensors, and the last block's output."""
    anatomy, shape = model.anatomy, (*tokens.shape, -1)
    found: list[dict[str, Tensor]] = [{} for _ in anatomy.blocks]
    final: dict[str, Tensor] = {}
    handles = [on_input(anatomy.final_norm_module, keeping(final, "stream"))]
    for block, kept in zip(anatomy.blocks, found, strict=True):
        handles += [
            on_input(block.module, keeping(kept, "residual", shape)),
            on_input(block.projection, keeping(kept, "projection_input", shape)),
            on_output(block.projection, keeping(kept, "projection_output", shape)),
            on_output(block.mlp_write, keeping(kept, "mlp_write", shape)),
        ]
        if block.attention_norm is not None:
            handles.append(on_output(block.attention_write, keeping(kept, "normed", shape)))
    with removing(*handles):
        model.run_trunk(tokens)
    return [_Seen(**kept) for kept in found], final["stream"]
