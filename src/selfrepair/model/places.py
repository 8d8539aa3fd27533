"""Finds where ports are in a model: the module whose input or output each port is."""

from __future__ import annotations

from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port
from selfrepair.model.stream_directions import direction_place
from selfrepair.model.taps import Place


def place_of(model: LanguageModel, port: Port) -> Place:
    """Where a port is.

    Raises:
        SelfRepairError: the block has no neurons that could be found, as in a mixture of experts; a direction of the
            stream that is not as long as the stream is wide; a mixer or an MLP that the layer does not have, or that
            writes with several modules.
    """
    block = model.anatomy.blocks[port.layer]
    if port.kind == "heads":
        return block.heads_place
    if port.kind == "mixer" and block.has_mixer:
        return Place(block.mixer_write, False, 1, model.anatomy.width)
    if port.kind == "mlp" and len(block.mlps) == 1:
        return Place(block.mlp_write, False, 1, model.anatomy.width)
    if port.kind in ("mixer", "mlp"):
        has = f"an MLP of {len(block.mlps)} parts that write side by side" if block.mlps else "no MLP"
        raise SelfRepairError(
            f"L{port.layer}.{port.kind} cannot be replaced: layer {port.layer} has "
            f"{has if port.kind == 'mlp' else 'no mixer (a state space or the like without heads)'}.",
            "Look at another layer: `selfrepair check` lists what each layer has.",
        )
    if port.kind == "stream":
        return direction_place(block.module, port, model.anatomy.width)
    neurons = model.neurons(port.layer)
    return Place(neurons.module, True, len(neurons.weight), 1)
