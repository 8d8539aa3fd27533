"""Finds where ports are in a model: the module whose input or output each port is."""

from __future__ import annotations

from selfrepair.errors import SelfRepairError
from selfrepair.model.anatomy import Block
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port
from selfrepair.model.stream_directions import direction_place
from selfrepair.model.taps import Place


def place_of(model: LanguageModel, port: Port) -> Place:
    """Where a port is.

    Raises:
        SelfRepairError: the block has no neurons that could be found, as in a mixture of experts; a direction of the
            stream that is not as long as the stream is wide; a mixer or an MLP that the layer does not have, or that
            writes with several modules, whose parts have to be named.
    """
    block = model.anatomy.blocks[port.layer]
    if port.kind == "heads":
        return block.heads_place
    if port.kind == "mixer" and block.has_mixer:
        return Place(block.mixer_write, False, 1, model.anatomy.width)
    if port.kind == "mlp" and port.part in block.mlp_parts:
        return Place(block.mlps[port.write][0], False, 1, model.anatomy.width)
    if port.kind in ("mixer", "mlp"):
        raise _no_such_write(port, block)
    if port.kind == "stream":
        return direction_place(block.module, port, model.anatomy.width)
    neurons = model.neurons(port.layer)
    return Place(neurons.module, True, len(neurons.weight), 1)


def _no_such_write(port: Port, block: Block) -> SelfRepairError:
    """The refusal of a mixer, an MLP or a part of one that a layer does not have."""
    name = f"L{port.layer}.{port.kind}{port.part if port.part >= 0 else ''}"
    parts = [f"L{port.layer}.mlp{part}" for part in range(len(block.mlps))]
    fix = "Look at another layer: `selfrepair check` lists what each layer has."
    if port.kind == "mixer":
        has = "no mixer (a state space or the like without heads)"
    elif len(parts) > 1:
        has = f"an MLP of {len(parts)} parts that write side by side"
        fix = f"Name one of them, or all to replace them together: {'+'.join(parts)}."
    elif parts:
        has, fix = "an MLP of one part", f"Name it as a whole: L{port.layer}.mlp."
    else:
        has = "no MLP"
    return SelfRepairError(f"{name} cannot be replaced: layer {port.layer} has {has}.", fix)
