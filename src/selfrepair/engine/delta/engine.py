"""The delta engine itself: the contract's `sweep`, as a wavefront of differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from selfrepair.ablation.interventions import Intervention, by_start, ports_of
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.accounts import RunNumbers, nothing_happens, require_sites
from selfrepair.engine.clean import CleanRun
from selfrepair.engine.contract import Replacement, Settings
from selfrepair.engine.delta.blocks import HEADS, INPUT, OUTPUT, PROJECTION, BlockRecorder, NotTraceable, mlp_marks
from selfrepair.engine.delta.clean_half import require_clean, strayed_at
from selfrepair.engine.delta.compiled import CompiledProgram
from selfrepair.engine.delta.layer_probes import after_attention, directions, of_attention
from selfrepair.engine.delta.matmul import PRECISIONS, Weights
from selfrepair.engine.delta.probes import Probe
from selfrepair.engine.delta.program import Program, TapeValues
from selfrepair.engine.delta.wavefront import PatchAt, Runs
from selfrepair.engine.fold import Folding, halving_when_memory_ends
from selfrepair.model.arguments import block_arguments
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import KINDS, Kind
from selfrepair.progress import Advance, ignore

BEHIND: tuple[Kind, ...] = ("mixer", "neurons", "mlp")  # ports behind, or beside, the heads of a layer


@dataclass
class DeltaEngine:
    """Carries differences to the clean run, all ablated runs of a batch of windows together.

    Example:
        >>> chosen = each([Head(0, 0), Mlp(1)])
        >>> with model.running():
        ...     clean = clean_run(model, tokens, ports=ports_of(chosen))
        ...     donors = port_outputs(model, tokens.flip(0), ports_of(chosen))
        ...     ledgers = list(DeltaEngine().sweep(model, clean, chosen, donors.__getitem__, per_component=True))
        >>> sorted(intervention.name for ledger in ledgers for intervention in ledger.interventions)
        ['L0H0', 'L1.mlp']

    Attributes:
        precision: how differences are multiplied with weights: `full` (the model's own), `bfloat16` or `int8`.
        full_below: runs that start in a layer below this one keep the model's own precision: where the first layers
            write a few enormous activations, a run that moves these loses the rest in their rounding.
        fold: how many runs of a full batch pass a block together, of a smaller one as many more; halved where memory
            runs out.
        compiled: whether blocks' difference halves are compiled, for full batches of `batch` windows.
        batch: windows in a full batch; other batches are not worth compiling for.
        runs: how many runs are held at a time, where memory does not hold all; they move up in several waves.
    """

    precision: str = "full"
    fold: int = 4
    compiled: bool = False
    batch: int | None = None
    runs: int | None = None
    full_below: int = 0
    name: str = "delta"
    _recorder: BlockRecorder = field(default_factory=BlockRecorder, repr=False)
    _programs: dict[tuple[str, int], CompiledProgram] = field(default_factory=dict, repr=False)
    _weights: dict[str, Weights] = field(default_factory=dict, repr=False)

    @property
    def exact(self) -> bool:
        """See `selfrepair.engine.contract.Engine`: its rules are not the model's own code, whatever the products."""
        return False

    @property
    def together(self) -> bool:
        """See `selfrepair.engine.contract.moves_together`: the clean half of every block is shared."""
        return True

    @property
    def settings(self) -> Settings:
        """See `selfrepair.engine.contract.Engine`."""
        return {
            "precision": self.precision,
            "full_below": self.full_below,
            "fold": self.fold,
            "compiled": self.compiled,
            "batch": self.batch,
            "runs": self.runs,
        }

    @property
    def steps_over_modules(self) -> bool:
        """Whether some module holds discrete steps and was taken as a whole: such blocks cannot be compiled."""
        return self._recorder.steps_over_modules

    def sweep(
        self,
        model: LanguageModel,
        clean: CleanRun,
        interventions: Sequence[Intervention],
        replacement: Replacement,
        per_component: bool,
        advance: Advance = ignore,
    ) -> Iterator[Ledger]:
        """See `selfrepair.engine.contract.Engine`."""
        model.require_running("sweep")
        require_sites(model, clean.tokens.shape[1], interventions)
        if not model.anatomy.alone:
            block = type(model.anatomy.blocks[0].module).__name__
            raise NotTraceable(f"{block} hands values on beside the stream, of which no differences are carried.")
        yield from nothing_happens(model.anatomy, clean, interventions, per_component)
        for precision, ordered in self._by_precision(interventions):
            most = self.runs or len(ordered)
            for start in range(0, len(ordered), most):
                chosen = ordered[start : start + most]
                remembered = lru_cache(len(KINDS))(replacement)  # of the layer at work: all layers take much memory
                yield from self._wave(model, clean, chosen, precision, remembered, per_component, advance)

    def _by_precision(self, interventions: Sequence[Intervention]) -> Iterator[tuple[str, list[Intervention]]]:
        """The runs of each precision that there are any of, those that start last first."""
        groups = by_start(interventions)
        for precision, full in ((self.precision, False), ("full", True)):
            chosen = [run for start, group in groups if (start < self.full_below) is full for run in group]
            if chosen:
                yield precision, chosen

    def _wave(
        self,
        model: LanguageModel,
        clean: CleanRun,
        interventions: Sequence[Intervention],
        precision: str,
        replacement: Replacement,
        per_component: bool,
        advance: Advance,
    ) -> Iterator[Ledger]:
        """Moves up as many runs as memory holds, from the lowest layer of theirs."""
        anatomy, starting = model.anatomy, dict(reversed(by_start(interventions)))
        weights = self._weights.setdefault(precision, Weights(PRECISIONS[precision]))
        joining = [intervention for group in starting.values() for intervention in group]
        runs = Runs(model, clean, joining, per_component)
        neurons = {port.layer: model.neurons(port.layer).module for port in ports_of(joining) if port.kind == "neurons"}
        arguments, tape, strayed = block_arguments(model, clean.tokens), None, clean.sigma.new_zeros(())
        for layer in range(min(starting), anatomy.layers):
            block, residual = anatomy.blocks[layer], clean.residuals[layer]
            tape = self._recorder.record(block, arguments[layer], residual, neurons.get(layer))
            strayed = torch.maximum(strayed, strayed_at(clean, layer, tape))
            values = TapeValues(tape, weights, directions(block, clean, layer), clean.reading, clean.tokens.shape)
            self._advance(runs, layer, values, replacement, advance)
            if layer in starting:
                self._join(runs, layer, len(starting[layer]), values, replacement, advance)
                runs.replace_directions(layer, replacement)
            if model.offloaded:
                weights.forget()
        assert tape is not None
        require_clean(model, float(strayed))
        yield from runs.ledgers(tape.values[tape.marks[OUTPUT]])

    def _advance(self, runs: Runs, layer: int, values: TapeValues, replacement: Replacement, advance: Advance) -> None:
        """Moves all runs of lower layers through a block."""
        block, tape, joined = runs.anatomy.blocks[layer], values.tape, runs.joined
        start, per_component = tape.marks[INPUT], runs.accounts.by_head is not None
        touched = [row for row in runs.accounts.touching_layer(layer) if row < joined]
        others: RunNumbers = sorted(set(range(joined)) - set(touched)) if touched else slice(0, joined)
        probes = [*after_attention(block, tape), *of_attention(tape, per_component)]
        program = Program.between(tape, start, probes)
        for rows, probed in self._passes(program, values, runs.difference[others], others):
            runs.book(layer, rows, probed, {})
            advance(_count(rows) * len(runs.clean.tokens))
        if touched:
            patches = runs.patches(layer, touched, tape, replacement, KINDS)
            probes = [*after_attention(block, tape), *of_attention(tape, per_component or HEADS in patches)]
            for rows, probed, put in self._patched(start, probes, values, runs.difference[touched], touched, patches):
                runs.book(layer, rows, probed, put)
                advance(_count(rows) * len(runs.clean.tokens))

    def _join(
        self,
        runs: Runs,
        layer: int,
        number: int,
        values: TapeValues,
        replacement: Replacement,
        advance: Advance,
    ) -> None:
        """Starts the runs of a layer: their differences begin at the projection's output, or behind it."""
        block, tape = runs.anatomy.blocks[layer], values.tape
        joining, write = runs.join(layer, number, replacement)
        start = tape.marks[PROJECTION] if block.heads else tape.marks[INPUT]  # no heads: no difference before a patch
        write = write.reshape(write.shape[0], *tape.values[start].shape)
        behind = set(runs.accounts.touching_kinds(layer, BEHIND))
        touched = [row for row in range(joining.start, joining.stop) if row in behind]
        others = [row for row in range(joining.start, joining.stop) if row not in behind]
        own = mlp_marks(block) if block.parallel else []
        probes = [probe for probe in after_attention(block, tape) if probe.name not in own]
        program = Program.between(tape, start, probes)
        within = [row - joining.start for row in others]
        for rows, probed in self._passes(program, values, write if not touched else write[within], others):
            runs.book_own_layer(layer, rows, probed, {})
            advance(_count(rows) * len(runs.clean.tokens))
        if touched:
            patches = runs.patches(layer, touched, tape, replacement, BEHIND)
            within = [row - joining.start for row in touched]
            for rows, probed, put in self._patched(
                start, after_attention(block, tape), values, write[within], touched, patches
            ):
                runs.book_own_layer(layer, rows, probed, put)
                advance(_count(rows) * len(runs.clean.tokens))

    def _passes(
        self, program: Program, values: TapeValues, differences: Tensor, numbers: RunNumbers
    ) -> Iterator[tuple[RunNumbers, dict[str, Tensor]]]:
        """Runs a program on chunks of `fold` runs; chunks are halved where memory runs out.

        Args:
            program: the program to run.
            values: its clean values.
            differences: at its start, [run, ...].
            numbers: numbers of these runs among all.
        """
        folding, key = self._folding(values), self._key(program, values)
        for chunk in folding.chunks(range(len(differences))):
            part = slice(chunk[0], chunk[-1] + 1)
            with halving_when_memory_ends(folding, chunk):
                code = program if key is None else self._compiled(key, program, values, differences, folding.size)
                yield _numbered(numbers, part), code.run(values, differences[part])
        self._keep(folding, values)

    def _patched(
        self,
        start: int,
        probes: Sequence[Probe],
        values: TapeValues,
        differences: Tensor,
        numbers: list[int],
        patches: Mapping[str, PatchAt],
    ) -> Iterator[tuple[RunNumbers, dict[str, Tensor], dict[str, PatchAt]]]:
        """The same with patches of ports on the way, never compiled; each chunk comes with its part of the patches."""
        folding = self._folding(values)
        program = Program.between(values.tape, start, probes, [patch.index for patch in patches.values()])
        for chunk in folding.chunks(range(len(differences))):
            part = slice(chunk[0], chunk[-1] + 1)
            with halving_when_memory_ends(folding, chunk):
                put = {mark: patch.rows(part) for mark, patch in patches.items()}
                moves = {patch.index: patch.moved(values.clean(patch.index).shape) for patch in put.values()}
                yield _numbered(numbers, part), program.run(values, differences[part], moves), put
        self._keep(folding, values)

    def _folding(self, values: TapeValues) -> Folding:
        return Folding(self.fold * self._part_of_a_batch(values))

    def _keep(self, folding: Folding, values: TapeValues) -> None:
        """Keeps a smaller size for what comes."""
        self.fold = min(self.fold, max(1, folding.size // self._part_of_a_batch(values)))

    def _part_of_a_batch(self, values: TapeValues) -> int:
        """How many times the windows at hand go into a full batch."""
        return max(1, (self.batch or 1) // values.shape[0])

    def _key(self, program: Program, values: TapeValues) -> str | None:
        """Equal for programs that one compiled program serves; None where compiling does not pay."""
        if not self.compiled or values.shape[0] != self.batch or not program.operations:
            return None
        if values.reading.positions is not None:
            return None  # they would become part of the program
        return f"{values.precision.name} {program.start} {program.probes} {values.tape.signature()}"

    def _compiled(
        self, key: str, program: Program, values: TapeValues, differences: Tensor, fold: int
    ) -> CompiledProgram:
        if (key, fold) not in self._programs:
            example = differences.new_zeros(fold, *differences.shape[1:])
            self._programs[key, fold] = CompiledProgram(program, values, example)
        return self._programs[key, fold]


def _numbered(numbers: RunNumbers, part: slice) -> RunNumbers:
    """Which of all runs a part of some of them is; a slice where they lie side by side."""
    if isinstance(numbers, slice):
        return slice(numbers.start + part.start, numbers.start + part.stop)
    chosen = numbers[part]
    return slice(chosen[0], chosen[-1] + 1) if chosen[-1] - chosen[0] == len(chosen) - 1 else chosen


def _count(rows: RunNumbers) -> int:
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)
