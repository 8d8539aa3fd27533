"""The delta engine itself: the contract's `sweep`, as a wavefront of differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

import torch
from torch import Tensor

from selfrepair.ablation.units import Head, by_layer
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.clean import CleanRun
from selfrepair.engine.contract import Replacement, Settings
from selfrepair.engine.delta.blocks import ATTENTION, HEADS, INPUT, MLP, OUTPUT, PROJECTION, BlockRecorder
from selfrepair.engine.delta.compiled import CompiledProgram
from selfrepair.engine.delta.matmul import PRECISIONS, Weights
from selfrepair.engine.delta.program import Program, TapeValues
from selfrepair.engine.delta.readings import (
    DIRECTION,
    HEAD_DIRECTIONS,
    PROJECTION_DIRECTION,
    STREAM,
    Reading,
)
from selfrepair.engine.delta.tape import Tape
from selfrepair.engine.delta.wavefront import Runs
from selfrepair.engine.fold import Folding, halving_when_memory_ends
from selfrepair.errors import RefusedModel
from selfrepair.model.anatomy import Block
from selfrepair.model.arguments import block_arguments
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.own_forward import stream_errors
from selfrepair.model.proofs import tolerance
from selfrepair.progress import Advance, ignore


@dataclass
class DeltaEngine:
    """Carries differences to the clean run, all ablated runs of a batch of windows together.

    Attributes:
        precision: how differences are multiplied with weights: `full` (the model's own), `bfloat16` or `int8`.
        fold: how many runs pass a block together; halved where memory ends.
        compiled: whether blocks' difference halves are compiled, for full batches of `batch` windows.
        batch: windows in a full batch; other batches are not worth compiling for.
        runs: how many runs are held at a time, where memory does not hold all; they move up in several waves.
    """

    precision: str = "full"
    fold: int = 4
    compiled: bool = False
    batch: int | None = None
    runs: int | None = None
    name: str = "delta"
    _recorder: BlockRecorder = field(default_factory=BlockRecorder, repr=False)
    _programs: dict[tuple[str, int], CompiledProgram] = field(default_factory=dict, repr=False)
    _weights: Weights | None = field(default=None, repr=False)

    @property
    def exact(self) -> bool:
        """See `selfrepair.engine.contract.Engine`: its rules are not the model's own code, whatever the products."""
        return False

    @property
    def settings(self) -> Settings:
        """See `selfrepair.engine.contract.Engine`."""
        return {
            "precision": self.precision,
            "fold": self.fold,
            "compiled": self.compiled,
            "batch": self.batch,
            "runs": self.runs,
        }

    @property
    def weights(self) -> Weights:
        """The model's weights at low precision."""
        if self._weights is None:
            self._weights = Weights(PRECISIONS[self.precision])
        return self._weights

    @property
    def steps_over_modules(self) -> bool:
        """Whether some module was too discrete to look into: such blocks cannot be compiled."""
        return self._recorder.steps_over_modules

    def sweep(
        self,
        model: LanguageModel,
        clean: CleanRun,
        units: Sequence[Head],
        replacement: Replacement,
        per_head: bool,
        advance: Advance = ignore,
    ) -> Iterator[Ledger]:
        """See `selfrepair.engine.contract.Engine`."""
        ordered = sorted(units, key=attrgetter("layer"), reverse=True)
        most = self.runs or len(ordered)
        for start in range(0, len(ordered), most):
            yield from self._wave(model, clean, ordered[start : start + most], replacement, per_head, advance)

    def _wave(
        self,
        model: LanguageModel,
        clean: CleanRun,
        units: Sequence[Head],
        replacement: Replacement,
        per_head: bool,
        advance: Advance,
    ) -> Iterator[Ledger]:
        """Moves up as many runs as memory holds, from the lowest layer of theirs."""
        anatomy, heads_of = model.anatomy, dict(by_layer(units))
        runs = Runs(anatomy, clean, len(units), per_head)
        arguments = block_arguments(model, clean.tokens)
        tape, strayed = None, clean.sigma.new_zeros(())
        for layer in range(min(heads_of), anatomy.layers):
            tape = self._recorder.record(anatomy.blocks[layer], arguments[layer], clean.residuals[layer])
            strayed = torch.maximum(strayed, _strayed(clean, layer, tape))
            values = TapeValues(tape, self.weights, _directions(clean, layer))
            self._advance(runs, layer, values, advance)
            if layer in heads_of:
                self._join(runs, layer, heads_of[layer], replacement(layer), values, advance)
            if model.offloaded:
                self.weights.forget()
        assert tape is not None
        _require_clean(model, float(strayed))
        yield from runs.ledgers(tape.values[tape.marks[OUTPUT]])

    def _advance(self, runs: Runs, layer: int, values: TapeValues, advance: Advance) -> None:
        """Moves all runs of lower layers through a block."""
        block, tape = runs.anatomy.blocks[layer], values.tape
        readings = [*_after_attention(block, tape), *_of_attention(tape, per_head=runs.by_head is not None)]
        program = Program.between(tape, tape.marks[INPUT], readings)
        for rows, found in self._passes(program, values, runs.difference[: runs.joined]):
            runs.book(layer, rows, found)
            advance((rows.stop - rows.start) * len(runs.clean.tokens))

    def _join(
        self,
        runs: Runs,
        layer: int,
        heads: tuple[int, ...],
        in_place: Tensor,
        values: TapeValues,
        advance: Advance,
    ) -> None:
        """Starts the runs of a layer's heads: their differences begin at the projection's output."""
        block, tape = runs.anatomy.blocks[layer], values.tape
        rows, write = runs.join(layer, heads, in_place)
        start = tape.marks[PROJECTION]
        readings = [r for r in _after_attention(block, tape) if not (block.parallel and r.name == MLP)]
        program = Program.between(tape, start, readings)
        write = write.reshape(write.shape[0], *tape.values[start].shape)
        for part, found in self._passes(program, values, write):
            runs.book_own_layer(layer, slice(rows.start + part.start, rows.start + part.stop), found)
            advance((part.stop - part.start) * len(runs.clean.tokens))

    def _passes(
        self, program: Program, values: TapeValues, differences: Tensor
    ) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """Runs a program on chunks of `fold` runs; chunks are halved where memory ends."""
        folding = Folding(self.fold)
        key = self._key(program, values)
        for chunk in folding.chunks(range(len(differences))):
            rows = slice(chunk[0], chunk[-1] + 1)
            with halving_when_memory_ends(folding, chunk):
                code = program if key is None else self._compiled(key, program, values, differences, folding.size)
                yield rows, code.run(values, differences[rows])
        self.fold = folding.size

    def _key(self, program: Program, values: TapeValues) -> str | None:
        """Equal for programs that one compiled program serves; None where compiling does not pay."""
        windows = values.direction(DIRECTION).shape[0]
        if not self.compiled or windows != self.batch or not program.operations:
            return None
        return f"{program.start} {program.readings} {values.tape.signature()}"

    def _compiled(
        self, key: str, program: Program, values: TapeValues, differences: Tensor, fold: int
    ) -> CompiledProgram:
        if (key, fold) not in self._programs:
            example = differences.new_zeros(fold, *differences.shape[1:])
            self._programs[key, fold] = CompiledProgram(program, values, example)
        return self._programs[key, fold]


def _strayed(clean: CleanRun, layer: int, tape: Tape) -> Tensor:
    """How far the output of a recorded block is from the stream that the block above read in the clean run."""
    following = (*clean.residuals[1:], clean.final)[layer]
    return stream_errors(tape.values[tape.marks[OUTPUT]].reshape(following.shape), following).max()


def _require_clean(model: LanguageModel, strayed: float) -> None:
    allowed = tolerance(model.dtype)
    if not strayed <= allowed:
        raise RefusedModel(
            "blocks replay",
            f"a block given its input and arguments again puts out a stream that differs by {strayed:.1e} of its size, "
            f"{allowed:.0e} is allowed.",
            "Blocks that need more than that (what other blocks or texts left somewhere) cannot be replayed.",
        )


def _directions(clean: CleanRun, layer: int) -> dict[str, Tensor]:
    return {
        DIRECTION: clean.direction,
        PROJECTION_DIRECTION: clean.projection_directions[layer],
        HEAD_DIRECTIONS: clean.head_directions[layer],
    }


def _after_attention(block: Block, tape: Tape) -> list[Reading]:
    readings = [Reading(OUTPUT, tape.marks[OUTPUT], STREAM), Reading(MLP, tape.marks[MLP], DIRECTION)]
    if block.attention_norm is not None:
        readings.append(Reading(ATTENTION, tape.marks[ATTENTION], DIRECTION))
    return readings


def _of_attention(tape: Tape, per_head: bool) -> list[Reading]:
    readings = [Reading(PROJECTION, tape.marks[PROJECTION], PROJECTION_DIRECTION)]
    if per_head:
        readings.append(Reading(HEADS, tape.marks[HEADS], HEAD_DIRECTIONS))
    return readings
