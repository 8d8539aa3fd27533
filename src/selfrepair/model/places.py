"""Finds where ports are in a model: the module whose input or output each port is."""

from __future__ import annotations

from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port
from selfrepair.model.stream_directions import direction_place
from selfrepair.model.taps import Place


def place_of(model: LanguageModel, port: Port) -> Place:
    """Where a port is.

    Raises:
        SelfRepairError: the block has no neurons that could be found, as in a mixture of experts; a direction of the
            stream that is not as long as the stream is wide.
    """
    block = model.anatomy.blocks[port.layer]
    if port.kind == "heads":
        return block.heads_place
    if port.kind == "mlp":
        return Place(block.mlp_write, False, 1, model.anatomy.width)
    if port.kind == "stream":
        return direction_place(block.module, port, model.anatomy.width)
    neurons = model.neurons(port.layer)
    return Place(neurons.module, True, len(neurons.weight), 1)
