"""What is read off a difference on its way: the difference itself, or what it is worth along a direction.

Read inside the program, so that a compiled one does it while the difference is at hand: no extra matmul, no extra pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from selfrepair.engine.clean import worth
from selfrepair.engine.delta.rules import Values

STREAM = "stream"
DIRECTION, PROJECTION_DIRECTION, HEAD_DIRECTIONS = "direction", "projection", "heads"


@dataclass(frozen=True)
class Reading:
    """One thing to read.

    Attributes:
        name: what the reader calls it.
        index: number of the value on the tape.
        along: `STREAM` for the difference itself, else the direction: one of the final norm, the same seen from the
            projection, or one for every head.
    """

    name: str
    index: int
    along: str


def read(reading: Reading, difference: Tensor, values: Values) -> Tensor:
    """The reading, from the difference [run, *shape of the value].

    Returns:
        [run, *shape of the value], [run, window, P], or [run, window, P, head].
    """
    if reading.along == STREAM:
        return difference
    direction = values.direction(reading.along)
    windows, positions = direction.shape[0], direction.shape[1] + 1
    unfolded = difference.reshape(difference.shape[0], windows, positions, -1)  # some blocks fold these axes together
    if reading.along != HEAD_DIRECTIONS:
        return worth(unfolded, direction)
    outputs = unfolded[..., :-1, :].reshape(*unfolded.shape[:2], positions - 1, *direction.shape[-2:])
    return torch.sum(outputs * direction, -1)
