"""The values of a layer that its programs read."""

from __future__ import annotations

from selfrepair.engine.delta.blocks import ATTENTION, HEADS, MIXER, OUTPUT, PROJECTION, mlp_marks
from selfrepair.engine.delta.probes import DIRECTION, HEAD_DIRECTIONS, PROJECTION_DIRECTION, STREAM, Probe
from selfrepair.engine.delta.tape import Tape
from selfrepair.model.anatomy import Block


def after_attention(block: Block, tape: Tape) -> list[Probe]:
    """What is read behind attention, whether or not a run's differences begin there."""
    probes = [Probe(OUTPUT, tape.marks[OUTPUT], STREAM)]
    probes += [Probe(name, tape.marks[name], DIRECTION) for name in mlp_marks(block)]
    if block.has_mixer:
        probes.append(Probe(MIXER, tape.marks[MIXER], DIRECTION))
    if block.attention_norm is not None:
        probes.append(Probe(ATTENTION, tape.marks[ATTENTION], DIRECTION))
    return probes


def of_attention(tape: Tape, per_component: bool) -> list[Probe]:
    """What is read of attention itself; nothing in layers without heads."""
    if PROJECTION not in tape.marks:
        return []
    probes = [Probe(PROJECTION, tape.marks[PROJECTION], PROJECTION_DIRECTION)]
    if per_component:
        probes.append(Probe(HEADS, tape.marks[HEADS], HEAD_DIRECTIONS))
    return probes
