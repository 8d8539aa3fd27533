"""Probes read differences inside a program: the difference itself, or what it is worth along a direction.

Read inside the program, so that a compiled one does it while the difference is at hand: no extra matmul, no extra pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from selfrepair.engine.delta.rules import Values

STREAM = "stream"
DIRECTION, PROJECTION_DIRECTION, HEAD_DIRECTIONS = "direction", "projection", "heads"


@dataclass(frozen=True)
class Probe:
    """A value to read.

    Attributes:
        name: key of the result.
        index: number of the value on the tape.
        along: `STREAM` for the difference itself, else the direction: one of the final norm, the same seen from the
            projection, or one for every head.
    """

    name: str
    index: int
    along: str


def read_probe(probe: Probe, difference: Tensor, values: Values) -> Tensor:
    """The probed number, from the difference [run, *shape of the value].

    Returns:
        [run, *shape of the value], [run, window, P], or [run, window, P, head].
    """
    if probe.along == STREAM:
        return difference
    direction, reading = values.direction(probe.along), values.reading
    unfolded = difference.reshape(difference.shape[0], *values.shape, -1)  # some blocks fold these axes together
    read_here = reading.at(unfolded)
    if probe.along != HEAD_DIRECTIONS:
        return (read_here * direction).sum(-1)
    return torch.sum(read_here.reshape(*read_here.shape[:-1], *direction.shape[-2:]) * direction, -1)
