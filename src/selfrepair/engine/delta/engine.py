"""The delta engine itself: the contract's `sweep`, as a wavefront of differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from selfrepair.ablation.units import Head, by_layer
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.arguments import BlockArguments
from selfrepair.engine.clean import CleanRun
from selfrepair.engine.contract import Replacement
from selfrepair.engine.delta.blocks import ATTENTION, HEADS, INPUT, MLP, OUTPUT, PROJECTION, BlockRecorder
from selfrepair.engine.delta.matmul import Full, Precision, Weights
from selfrepair.engine.delta.program import Program, TapeValues
from selfrepair.engine.delta.tape import Tape
from selfrepair.engine.delta.wavefront import Runs
from selfrepair.model.language_model import LanguageModel


@dataclass
class DeltaEngine:
    """Carries differences to the clean run, all ablated runs of a batch of windows together.

    Attributes:
        precision: how differences are multiplied with weights.
        fold: how many runs pass a block together.
    """

    precision: Precision = field(default_factory=Full)
    fold: int = 8
    name: str = "delta"
    _arguments: BlockArguments = field(default_factory=BlockArguments, repr=False)
    _recorder: BlockRecorder = field(default_factory=BlockRecorder, repr=False)
    _weights: Weights | None = field(default=None, repr=False)

    def sweep(
        self,
        model: LanguageModel,
        clean: CleanRun,
        units: Sequence[Head],
        replacement: Replacement,
        per_head: bool,
    ) -> Iterator[Ledger]:
        """See `selfrepair.engine.contract.Engine`."""
        if self._weights is None:
            self._weights = Weights(self.precision)
        anatomy, heads_of = model.anatomy, dict(by_layer(units))
        runs = Runs(anatomy, clean, len(units), per_head)
        arguments = self._arguments.of(model, *clean.tokens.shape)
        tape = None
        for layer in range(min(heads_of), anatomy.layers):
            block = anatomy.blocks[layer]
            tape = self._recorder.record(block, arguments[layer], clean.residuals[layer])
            values = TapeValues(tape, self._weights)
            self._advance(runs, layer, values)
            if layer in heads_of:
                self._join(runs, layer, heads_of[layer], replacement(layer), values)
        assert tape is not None
        yield from runs.ledgers(tape.values[tape.marks[OUTPUT]])

    def _advance(self, runs: Runs, layer: int, values: TapeValues) -> None:
        """Moves all runs of lower layers through a block."""
        tape = values.tape
        wanted = [OUTPUT, PROJECTION, MLP]
        wanted += [HEADS] if runs.by_head is not None else []
        wanted += [ATTENTION] if runs.anatomy.blocks[layer].attention_norm is not None else []
        program = Program.between(tape, tape.marks[INPUT], [tape.marks[name] for name in wanted])
        for rows in _chunks(0, runs.joined, self.fold):
            found = program.run(values, runs.difference[rows])
            named = {name: found[tape.marks[name]] for name in wanted}
            runs.book(layer, rows, named)
            runs.difference[rows] = named[OUTPUT]

    def _join(self, runs: Runs, layer: int, heads: tuple[int, ...], in_place: Tensor, values: TapeValues) -> None:
        """Starts the runs of a layer's heads: their differences begin at the projection's output."""
        tape = values.tape
        rows, write = runs.join(layer, heads, in_place)
        parallel = runs.anatomy.blocks[layer].parallel
        wanted = [OUTPUT] + ([] if parallel else [MLP])
        wanted += [ATTENTION] if runs.anatomy.blocks[layer].attention_norm is not None else []
        start = tape.marks[PROJECTION]
        program = Program.between(tape, start, [tape.marks[name] for name in wanted])
        write = write.reshape(write.shape[0], *tape.values[start].shape)
        for part in _chunks(0, len(heads), self.fold):
            found = program.run(values, write[part])
            found |= {start: write[part]}
            named = {name: found[tape.marks[name]] for name in wanted}
            own = slice(rows.start + part.start, rows.start + part.stop)
            runs.book_own_layer(layer, own, write[part], named)
            runs.difference[own] = named[OUTPUT]


def _chunks(start: int, stop: int, size: int) -> Iterator[slice]:
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))
