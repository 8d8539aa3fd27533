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


class NotTraceable(SelfRepairError):
    """A block that cannot be followed operation by operation."""


class BlockRecorder:
    """Records blocks; remembers which of their modules have to be stepped over as a whole."""

    def __init__(self) -> None:
        self._opaque: dict[tuple[type[nn.Module], ...], set[str]] = {}  # by classes of the block and its modules

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
        kinds = (type(block.module), *map(type, block.module.children()))  # layers of one class differ (Nemotron-H)
        names = self._opaque.setdefault(kinds, set())
        while True:
            try:
                return self._attempt(block, arguments, residual, names, neurons)
            except DiscreteStep as step:
                if not step.stack:
                    raise NotTraceable(f"{type(block.module).__name__} calls {step} itself.") from step
                name = next(name for name, module in block.module.named_children() if module is step.stack[0])
                if name in names:
                    raise NotTraceable(f"{type(block.module).__name__} calls {step} in {name}.") from step
                names.add(name)

    def _attempt(
        self, block: Block, arguments: Arguments, residual: Tensor, names: set[str], neurons: nn.Module | None
    ) -> Tape:
        residual = residual.clone()  # blocks may change it in place
        own = dict(block.module.named_children())  # layers of one class need not all have them (hybrids)
        recorder = Recorder(residual, [own[name] for name in names if name in own])
        tape = recorder.tape
        tape.marks[INPUT] = 0
        args, kwargs = with_input(arguments, residual)

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
        except LookupError as problem:
            raise NotTraceable(f"{type(block.module).__name__} hides {problem}.") from problem
        return tape
