"""The values of a layer that its programs read."""

from __future__ import annotations

from torch import Tensor

from selfrepair.engine.clean import CleanRun
from selfrepair.engine.delta.blocks import ATTENTION, HEADS, MIXER, OUTPUT, PROJECTION, mlp_marks
from selfrepair.engine.delta.probes import DIRECTION, HEAD_DIRECTIONS, PROJECTION_DIRECTION, STREAM, Probe
from selfrepair.engine.delta.tape import Tape
from selfrepair.model.anatomy import Block
from selfrepair.model.gains import Write


def after_attention(block: Block, tape: Tape) -> list[Probe]:
    """What is read behind attention, whether or not a run's differences begin there."""
    probes = [Probe(OUTPUT, tape.marks[OUTPUT], STREAM)]
    probes += [Probe(name, tape.marks[name], along(block, name)) for name in mlp_marks(block)]
    if block.has_mixer:
        probes.append(Probe(MIXER, tape.marks[MIXER], along(block, MIXER)))
    if block.attention_norm is not None:
        probes.append(Probe(ATTENTION, tape.marks[ATTENTION], along(block, ATTENTION)))
    return probes


def of_attention(tape: Tape, per_component: bool) -> list[Probe]:
    """What is read of attention itself; nothing in layers without heads."""
    if PROJECTION not in tape.marks:
        return []
    probes = [Probe(PROJECTION, tape.marks[PROJECTION], PROJECTION_DIRECTION)]
    if per_component:
        probes.append(Probe(HEADS, tape.marks[HEADS], HEAD_DIRECTIONS))
    return probes


def along(block: Block, mark: str) -> str:
    """Name of the direction that a write is read along: one of its own in blocks with gains by dimension."""
    return DIRECTION if block.gains is None else f"{DIRECTION} of {mark}"


def directions(block: Block, clean: CleanRun, layer: int) -> dict[str, Tensor]:
    """The directions that a layer's probes read along, by name: those of a block's writes, of its projection's output
    and of every head's."""
    writes: dict[str, Write] = {ATTENTION: "attention", MIXER: "mixer"}
    writes |= {name: number for number, name in enumerate(mlp_marks(block))}
    return {
        **{along(block, mark): block.with_gain(clean.direction, write) for mark, write in writes.items()},
        PROJECTION_DIRECTION: clean.projection_directions[layer],
        HEAD_DIRECTIONS: clean.head_directions[layer],
    }
