"""One block's tape, with the values marked that the ledger reads."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from selfrepair.engine.delta.tape import DiscreteStep, Recorder, Tape
from selfrepair.errors import SelfRepairError
from selfrepair.model.anatomy import Block
from selfrepair.model.taps import Arguments, first_tensor, on_input, on_output, removing, with_input

INPUT, OUTPUT = "input", "output"
HEADS, PROJECTION, ATTENTION, NEURONS = "heads", "projection", "attention", "neurons"
MIXER, MLP = "mixer", "mlp"


def mlp_mark(write: int) -> str:
    """The mark of one write of a block's MLP, by its number in `Block.mlps`."""
    return MLP if write == 0 else f"{MLP} {write}"


def mlp_marks(block: Block) -> list[str]:
    """Marks of all writes of a block's MLP, in the order of `Block.mlps`."""
    return list(map(mlp_mark, range(len(block.mlps))))


_Kind = tuple[type[nn.Module], ...]
"""Class of a block, and of its parts."""


class NotTraceable(SelfRepairError):
    """A block that cannot be followed operation by operation."""


class BlockRecorder:
    """Records blocks; remembers which of their modules have to be stepped over as a whole."""

    def __init__(self) -> None:
        self._opaque: dict[_Kind, set[str]] = {}
        self._choosing: set[_Kind] = set()  # blocks that choose by functions outside of modules to step over

    @property
    def steps_over_modules(self) -> bool:
        """Whether any block recorded so far has a module that is taken as one operation."""
        return any(self._opaque.values())

    def record(self, block: Block, arguments: Arguments, residual: Tensor, neurons: nn.Module | None = None) -> Tape:
        """The tape of a block on its clean input.

        Args:
            block: the block.
            arguments: arguments of the module, for the residual's batch of windows.
            residual: [window, position, width].
            neurons: the map whose input is the MLP's neurons, where these are to be marked.

        Raises:
            NotTraceable: the block itself, not one of its modules, does something discrete, or reads a value that
                cannot be followed.
        """
        kind = (type(block.module), *map(type, block.module.children()))  # layers of one class differ (hybrids)
        names = self._opaque.setdefault(kind, set())
        while True:
            try:
                recorder = self._recorder(block, residual, names, kind in self._choosing)
                return self._attempt(block, arguments, recorder, neurons)
            except DiscreteStep as step:
                name = _to_step_over(block, step, neurons)
                if name is not None and name not in names:
                    names.add(name)
                elif kind not in self._choosing:
                    self._choosing.add(kind)
                else:
                    where = f"in {type(step.stack[0]).__name__}" if step.stack else "itself"
                    raise NotTraceable(f"{type(block.module).__name__} calls {step} {where}.") from step

    def _recorder(self, block: Block, residual: Tensor, names: set[str], choosing: bool) -> Recorder:
        own = dict(block.module.named_modules())  # layers of one class need not all have them (hybrids)
        stepped_over = [own[name] for name in names if name in own]
        return Recorder(residual.clone(), stepped_over, choosing)  # blocks may change it in place

    def _attempt(self, block: Block, arguments: Arguments, recorder: Recorder, neurons: nn.Module | None) -> Tape:
        tape = recorder.tape
        tape.marks[INPUT] = 0
        args, kwargs = with_input(arguments, tape.values[0])

        def mark(name: str, value: Tensor) -> None:
            tape.marks[name] = recorder.number(value)

        try:
            with recorder.watching(block.module):  # before the taps: they read what it has put on the tape
                taps = [
                    on_input(block.projection, partial(mark, HEADS)),
                    on_output(block.projection, partial(mark, PROJECTION)),
                    on_output(block.attention_write, partial(mark, ATTENTION)),
                    on_output(block.mixer_write, partial(mark, MIXER)),
                ]
                for name, (module, _) in zip(mlp_marks(block), block.mlps, strict=True):
                    taps.append(on_output(module, partial(mark, name)))
                if neurons is not None:
                    taps.append(on_input(neurons, partial(mark, NEURONS)))
                with removing(*taps), recorder:
                    out = block.module(*args, **kwargs)
            mark(OUTPUT, first_tensor(out))
            if tape.jumping.intersection(tape.marks.values()):
                raise NotTraceable(f"{type(block.module).__name__} chooses what is read.")
        except LookupError as problem:
            raise NotTraceable(f"{type(block.module).__name__} hides {problem}.") from problem
        return tape


def _to_step_over(block: Block, step: DiscreteStep, neurons: nn.Module | None) -> str | None:
    """Path of the outermost module around a discrete step inside which nothing is read; None where there is none."""
    written = [block.projection, block.attention_write, block.mixer_write, *(module for module, _ in block.mlps)]
    read = {*written, *([] if neurons is None else [neurons])}
    around = (module for module in step.stack if not read.intersection([*module.modules()][1:]))
    chosen = next(around, None)
    return next((name for name, module in block.module.named_modules() if module is chosen), None)
