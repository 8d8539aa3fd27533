"""Inner tensors of all blocks in one forward of the trunk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port
from selfrepair.model.taps import Place, keeping, on_input, on_output, removing


@dataclass
class BlockOutputs:
    """What was seen of a block; `None` and nothing for parts that it does not have."""

    residual: Tensor
    projection_input: Tensor | None = None
    projection_output: Tensor | None = None
    normed: Tensor | None = None
    mixer: Tensor | None = None
    mlps: dict[int, Tensor] = field(default_factory=dict)

    @property
    def heads(self) -> Tensor:
        """What the projection reads."""
        return self.residual[..., :0] if self.projection_input is None else self.projection_input

    @property
    def projected(self) -> Tensor:
        """What the projection puts out."""
        return torch.zeros_like(self.residual) if self.projection_output is None else self.projection_output

    @property
    def attention_write(self) -> Tensor:
        """What attention adds, but for a multiplier."""
        return self.projected if self.normed is None else self.normed


def watched_blocks(
    model: LanguageModel, tokens: Tensor, places: Mapping[Port, Place]
) -> tuple[list[BlockOutputs], dict[Port, Tensor], Tensor]:
    """All blocks' inner tensors, outputs at some more ports, and the last block's output."""
    anatomy, shape = model.anatomy, (*tokens.shape, -1)
    others: dict[Port, Tensor] = {}
    seen: list[dict[str, Tensor]] = [{} for _ in anatomy.blocks]
    mlps: list[dict[int, Tensor]] = [{} for _ in anatomy.blocks]
    final: dict[str, Tensor] = {}
    handles = [on_input(anatomy.final_norm_module, keeping(final, "stream"))]
    for block, kept, written in zip(anatomy.blocks, seen, mlps, strict=True):
        handles += [
            on_input(block.module, keeping(kept, "residual", shape)),
            on_input(block.projection, keeping(kept, "projection_input", shape)),
            on_output(block.projection, keeping(kept, "projection_output", shape)),
            on_output(block.mixer_write, keeping(kept, "mixer", shape)),
            *(on_output(module, keeping(written, number, shape)) for number, (module, _) in enumerate(block.mlps)),
        ]
        if block.attention_norm is not None:
            handles.append(on_output(block.attention_write, keeping(kept, "normed", shape)))
    handles += [place.tap(keeping(others, port, shape)) for port, place in places.items()]
    with removing(*handles):
        model.run_trunk(tokens)
    outputs = {port: place.split(others[port]) for port, place in places.items()}
    blocks = [BlockOutputs(**kept, mlps=written) for kept, written in zip(seen, mlps, strict=True)]
    return blocks, outputs, final["stream"]
