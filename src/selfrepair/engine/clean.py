"""The clean run of a batch of windows: everything that all ablated runs of the batch share."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from selfrepair.effects.readouts import NextToken, Reading
from selfrepair.engine.watched_blocks import BlockOutputs, watched_blocks
from selfrepair.model.anatomy import Block
from selfrepair.model.gains import Write
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.own_forward import own_forward, require_own_logits, require_own_stream, telling_window
from selfrepair.model.places import place_of
from selfrepair.model.ports import Kind, Port
from selfrepair.model.proofs import tolerance
from selfrepair.model.stream_directions import vector_of
from selfrepair.model.taps import keeping, removing


@dataclass(frozen=True)
class CleanRun:
    """A batch of windows run through the unchanged model. The readout makes P predictions per window.

    Example:
        >>> clean.scaled_logit.shape, clean.outputs_at(Port(0, "heads")).shape
        (torch.Size([2, 11]), torch.Size([2, 12, 2, 8]))

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
        mlps: direct effect of each layer's MLP, [layer, window, P]; of all its writes together.
        mlp_writes: per layer, the direct effect of each of them, [write, window, P].
        mixers: direct effect of each layer's mixer, [layer, window, P]; zero where there is none.
        sigma: the final norm's scale [window, P].
        scaled_logit: the part of the target's centred logit that the scale divides, `u . residual / sigma`, [window,
            P]. Effects are differences of it; `beta`, the rest, may be huge, and is never added before.
        reading: what is measured, and where.
        others: outputs and directions at ports other than heads, where these were asked for.
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
    mlp_writes: tuple[Tensor, ...]
    mixers: Tensor
    sigma: Tensor
    scaled_logit: Tensor
    reading: Reading
    others: Mapping[Port, PortRun]

    @property
    def u(self) -> Tensor:
        """The measured direction [window, P, width]."""
        return self.reading.u

    @property
    def beta(self) -> Tensor:
        """The part of what is measured that no scale divides [window, P]."""
        return self.reading.beta

    @property
    def logit(self) -> Tensor:
        """The target's centred logit [window, P], for display: where `beta` is huge, effects drown in it."""
        return self.scaled_logit + self.beta

    def direct_effects(self, layer: int, head_outputs: Tensor | None = None) -> Tensor:
        """Direct effects of a layer's heads, [..., window, P, head].

        Args:
            layer: the layer.
            head_outputs: outputs to value, [..., window, position, head, head_dim]; the clean ones by default.
        """
        return self.direct_effects_at(Port(layer, "heads"), head_outputs)

    def outputs_at(self, port: Port) -> Tensor:
        """A port's clean outputs [window, position, entry, size].

        Raises:
            KeyError: they were not asked for when this run was made.
        """
        return self.head_outputs[port.layer] if port.kind == "heads" else self.others[port].outputs

    def direct_effects_at(self, port: Port, outputs: Tensor | None = None) -> Tensor:
        """Direct effects of a port's entries, [..., window, P, entry]; of the clean outputs by default."""
        values = self.outputs_at(port) if outputs is None else outputs
        directions = self.head_directions[port.layer] if port.kind == "heads" else self.others[port].directions
        return (self.reading.at(values, 2) * directions).sum(-1)

    def worth(self, write: Tensor, direction: Tensor) -> Tensor:
        """`write . direction` at every prediction, [..., window, P].

        Args:
            write: [..., window, position, width].
            direction: [window, P, width].
        """
        return (self.reading.at(write) * direction).sum(-1)


@dataclass(frozen=True)
class PortRun:
    """A port in a clean run.

    Attributes:
        outputs: [window, position, entry, size].
        directions: what an output is worth in logits, at clean scales, [window, P, entry, size].
    """

    outputs: Tensor
    directions: Tensor


def clean_run(
    model: LanguageModel, tokens: Tensor, reading: Reading | None = None, ports: Collection[Port] = ()
) -> CleanRun:
    """Runs `tokens` through the trunk and values every component's write. Call under `model.running()`.

    Example:
        >>> with model.running():
        ...     clean = clean_run(model, tokens, NextToken().reading(model.anatomy, tokens), [Port(1, "mlp")])
        >>> clean.direct_effects_at(Port(1, "mlp")).shape  # [window, P, entry]
        torch.Size([2, 11, 1])

    Args:
        model: the model.
        tokens: [window, position].
        reading: what is measured; the next token's centred logit by default.
        ports: ports whose outputs are kept; those of heads always are.

    Raises:
        SelfRepairError: neurons of a block that has none, as in a mixture of experts; outside `model.running()`.
    """
    anatomy = model.anatomy
    reading = reading or NextToken().reading(anatomy, tokens)
    places = {port: place_of(model, port) for port in ports if port.kind != "heads"}
    model.require_running("clean_run")
    seen, outputs, last = watched_blocks(model, tokens, places)
    final = reading.at(last)
    sigma = anatomy.final_norm.scale(final)
    direction = reading.u / sigma.unsqueeze(-1)

    valued = [_valued(block, layer, reading, direction) for block, layer in zip(anatomy.blocks, seen, strict=True)]
    attention, projections, mlps, mixers = torch.stack([each.lines for each in valued], 1)
    return CleanRun(
        tokens=tokens,
        residuals=tuple(layer.residual for layer in seen),
        final=last,
        head_outputs=tuple(
            block.heads_place.split(layer.heads) for block, layer in zip(anatomy.blocks, seen, strict=True)
        ),
        direction=direction,
        head_directions=tuple(each.head_directions for each in valued),
        projection_directions=tuple(each.projection_directions for each in valued),
        attention=attention,
        projections=projections,
        mlps=mlps,
        mlp_writes=tuple(each.mlp_writes for each in valued),
        mixers=mixers,
        sigma=sigma,
        scaled_logit=(reading.u * final).sum(-1) / sigma,
        reading=reading,
        others={
            port: PortRun(outputs[port], _directions(model, port, outputs[port], reading, direction)) for port in places
        },
    )


class _Valued(NamedTuple):
    """What one block's writes are worth, and the directions by which its heads' are; see `CleanRun`.

    Attributes:
        lines: of attention, the same through clean norm scales only, of the MLP and the mixer, [4, window, P].
        head_directions: [window, P, head, head_dim].
        projection_directions: [window, P, width].
        mlp_writes: [write, window, P].
    """

    lines: Tensor
    head_directions: Tensor
    projection_directions: Tensor
    mlp_writes: Tensor


def _valued(block: Block, layer: BlockOutputs, reading: Reading, direction: Tensor) -> _Valued:
    def worth(write: Tensor, along: Tensor) -> Tensor:
        return (reading.at(write) * along).sum(-1)

    inward = block.through_norm(direction)
    if block.attention_norm is not None:
        inward = inward / block.attention_norm.scale(reading.at(layer.projected)).unsqueeze(-1)
    head_directions = torch.einsum("bpd,hed->bphe", inward, block.output_weight)
    attention = block.attention_multiplier * worth(layer.attention_write, block.with_gain(direction, "attention"))
    writes = [
        multiplier * worth(layer.mlps[number], block.with_gain(direction, number))
        for number, (_, multiplier) in enumerate(block.mlps)
    ]
    mlp_writes = torch.stack(writes) if writes else attention.new_zeros(0, *attention.shape)
    mlp = writes[0] if len(writes) == 1 else mlp_writes.sum(0)
    nothing = torch.zeros_like(attention)
    along = block.with_gain(direction, "mixer")
    mixer = nothing if layer.mixer is None else block.mixer_multiplier * worth(layer.mixer, along)
    lines = torch.stack([attention, worth(layer.projected, inward), mlp, mixer])
    return _Valued(lines, head_directions, inward, mlp_writes)


def _directions(model: LanguageModel, port: Port, outputs: Tensor, reading: Reading, direction: Tensor) -> Tensor:
    """Directions of outputs at a port of an MLP or of the stream, [window, P, entry, size]."""
    block = model.anatomy.blocks[port.layer]
    writes: dict[Kind, Write] = {"stream": "stream", "mixer": "mixer", "mlp": port.write, "neurons": 0}
    direction = block.with_gain(direction, writes[port.kind])
    if port.kind == "stream":
        return block.later_multiplier * torch.matmul(direction, vector_of(port, direction))[..., None, None]
    if port.kind in ("mlp", "mixer"):
        return (block.multiplier(port) * direction).unsqueeze(-2)
    neurons = model.neurons(port.layer)
    return neurons.worth(direction, neurons.output(reading.at(outputs.flatten(-2)))).unsqueeze(-1)


def require_own_forward(model: LanguageModel, clean: CleanRun, real: Tensor) -> None:
    """Proves on one window of a batch, the one with the most special tokens, that the clean run is the model's own.

    Call under `model.running()`.

    Args:
        model: the model.
        clean: clean run of the batch.
        real: bool [window, position], tokens that are not padding.

    Raises:
        RefusedModel: the model's own forward has another final stream, or other centred logits.
    """
    window = telling_window(model, clean.tokens)
    only, allowed = slice(window, window + 1), tolerance(model.dtype)
    own = own_forward(model, clean.tokens[only])
    require_own_stream(model, clean.tokens, clean.final, {window: own.stream[0]}, real, allowed)
    require_own_logits(model, clean.final[only], own, real[only], allowed)


def head_outputs(model: LanguageModel, tokens: Tensor) -> tuple[Tensor, ...]:
    """Every layer's head outputs on `tokens`, as in `CleanRun.head_outputs`. Call under `model.running()`."""
    outputs = port_outputs(model, tokens, [Port(layer, "heads") for layer in range(model.anatomy.layers)])
    return tuple(outputs.values())


def port_outputs(model: LanguageModel, tokens: Tensor, ports: Collection[Port]) -> dict[Port, Tensor]:
    """Outputs at some ports on `tokens` [window, position], each [window, position, entry, size].

    Call under `model.running()`.

    Example:
        >>> with model.running():
        ...     donors = port_outputs(model, tokens.flip(0), [Port(0, "heads")])
        >>> donors[Port(0, "heads")].shape  # [window, position, head, head_dim]
        torch.Size([2, 12, 2, 8])

    Args:
        model: the model.
        tokens: [window, position].
        ports: ports to read.

    Raises:
        SelfRepairError: neurons of a block that has none, as in a mixture of experts; outside `model.running()`.
    """
    model.require_running("port_outputs")
    places = {port: place_of(model, port) for port in ports}
    seen: dict[Port, Tensor] = {}
    with removing(*(place.tap(keeping(seen, port, (*tokens.shape, -1))) for port, place in places.items())):
        model.run_trunk(tokens)
    for port, place in places.items():
        if not place.entries:  # of a layer without heads
            seen[port] = model.anatomy.unembedding.weight.new_zeros(*tokens.shape, 0)
    return {port: place.split(seen[port]) for port, place in places.items()}
