"""Ablated runs of the beginnings of windows: each as far as the last of its predictions that is wanted.

A prediction depends on the positions up to its own alone, so where a few predictions of each intervention are wanted,
windows are cut behind the last of them, and windows without any are left out. The engine sees shorter texts.

Engines whose runs move up together share a clean half of every block, and have compiled programs for full batches. Cut
windows would cost them both, so they compute whole ones, unless next to nothing of these is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache, partial

import torch
from torch import Tensor

from selfrepair.ablation.interventions import Intervention, by_start
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.accounts import direct_effects
from selfrepair.engine.clean import CleanRun, PortRun
from selfrepair.engine.contract import Engine, Replacement, moves_together
from selfrepair.engine.partial_ledgers import ledger_of, unknown_values
from selfrepair.model.anatomy import Anatomy
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port
from selfrepair.progress import Advance, ignore

_ALIKE, _LEAST = 0.8, 192  # a text is not cut to less than this share of it, nor are fewer positions put together
_ALIKE_TOGETHER, _LEAST_TOGETHER = 0.5, 2048  # the same for engines whose runs move up together
_NEXT_TO_NOTHING = 0.2  # of whole windows: cut ones then pay for such engines too


@dataclass(frozen=True)
class _Beginning:
    """Interventions whose wanted predictions lie in the beginnings of some windows.

    Attributes:
        interventions: their numbers.
        windows: places of the windows in the batch.
        length: positions.
    """

    interventions: tuple[int, ...]
    windows: tuple[int, ...]
    length: int


def sweep_wanted(
    engine: Engine,
    model: LanguageModel,
    clean: CleanRun,
    interventions: Sequence[Intervention],
    replacement: Replacement,
    per_component: bool,
    wanted: Tensor,
    advance: Advance = ignore,
) -> Iterator[Ledger]:
    """Ledgers as `selfrepair.engine.contract.Engine.sweep` yields them, of wanted predictions; NaN for all others.

    Example:
        >>> chosen = each([Head(0, 1)])
        >>> wanted = torch.zeros(1, 2, 11, dtype=torch.bool)  # [intervention, window, P]
        >>> wanted[0, 1, 4] = True
        >>> with model.running():
        ...     (ledger,) = sweep_wanted(ReplayEngine(), model, clean, chosen, donors.__getitem__, False, wanted)
        >>> ledger.total_effect.isfinite().nonzero().tolist()
        [[0, 1, 4]]

    Args:
        engine: computes the runs.
        model: the model.
        clean: the clean run of a batch of windows; it reads next tokens.
        interventions: one ablated run each.
        replacement: what to put in the replaced sites' places, for the whole batch.
        per_component: whether ledgers get a line for every downstream head.
        wanted: predictions to compute, bool [intervention, window, P].
        advance: called with the work done, in blocks times interventions times windows.
    """
    parts = list(_beginnings(interventions, wanted, moves_together(engine)))
    remembered, rows = cache(replacement), _Rows(clean, interventions, wanted)
    blocks = [model.anatomy.layers - (run.start or 0) for run in interventions]
    costs = [sum(blocks[run] for run in part.interventions) * len(part.windows) * part.length for part in parts]
    work = sum(blocks) * len(clean.tokens)
    spent = told = 0
    for part, cost in zip(parts, costs, strict=True):
        chosen = [interventions[number] for number in part.interventions]
        begun, in_place = beginning_of(clean, part.windows, part.length), partial(_cut, remembered, part)
        for ledger in engine.sweep(model, begun, chosen, in_place, per_component):
            rows.take(ledger, part)
        spent += cost
        reached = work * spent // sum(costs)
        advance(reached - told)
        told = reached
    advance(work - told)
    for _, group in by_start(interventions):
        yield rows.ledger(group, model.anatomy, per_component)


def _cut(whole: Replacement, part: _Beginning, port: Port) -> Tensor:
    return whole(port)[list(part.windows), : part.length]


def beginning_of(clean: CleanRun, windows: Sequence[int], length: int | None = None) -> CleanRun:
    """The clean run of the beginnings of some windows, cut out of that of a batch.

    Args:
        clean: the clean run; it reads next tokens.
        windows: places of the windows in the batch.
        length: positions of each; all by default.
    """
    assert clean.reading.positions is None and clean.reading.value is None
    windows, length = list(windows), clean.tokens.shape[1] if length is None else length
    if (windows, length) == (list(range(len(clean.tokens))), clean.tokens.shape[1]):
        return clean

    def cut(value: Tensor) -> Tensor:  # [window, position, ...]
        return value[windows, :length]

    def read(value: Tensor) -> Tensor:  # [window, P, ...]
        return value[windows, : length - 1]

    def lines(value: Tensor) -> Tensor:  # [line, window, P]
        return value[:, windows, : length - 1]

    reading = clean.reading
    return CleanRun(
        tokens=cut(clean.tokens),
        residuals=tuple(map(cut, clean.residuals)),
        final=cut(clean.final),
        head_outputs=tuple(map(cut, clean.head_outputs)),
        direction=read(clean.direction),
        head_directions=tuple(map(read, clean.head_directions)),
        projection_directions=tuple(map(read, clean.projection_directions)),
        attention=lines(clean.attention),
        projections=lines(clean.projections),
        mlps=lines(clean.mlps),
        mlp_writes=tuple(map(lines, clean.mlp_writes)),
        mixers=lines(clean.mixers),
        sigma=read(clean.sigma),
        scaled_logit=read(clean.scaled_logit),
        reading=replace(
            reading,
            targets=read(reading.targets),
            weights=read(reading.weights),
            u=read(reading.u),
            beta=read(reading.beta),
        ),
        others={port: PortRun(cut(run.outputs), read(run.directions)) for port, run in clean.others.items()},
    )


def _beginnings(interventions: Sequence[Intervention], wanted: Tensor, together: bool) -> Iterator[_Beginning]:
    """Covers all wanted predictions: windows of one intervention that need about the same length; if interventions
    move up together, whole windows of all, or those of one window that need about the same length."""
    ends = torch.arange(2, wanted.shape[-1] + 2, device=wanted.device)  # a prediction's own position, and its target
    needed = (wanted * ends).amax(-1).tolist() if wanted.shape[-1] else []
    if not together:
        for number, lengths in enumerate(needed):
            for windows, length in _alike(lengths, _ALIKE, _LEAST):
                yield _Beginning((number,), windows, length)
        return
    parts = []
    for window, lengths in enumerate(zip(*needed, strict=True)):
        for numbers, length in _alike(lengths, _ALIKE_TOGETHER, _LEAST_TOGETHER):
            parts.append(_Beginning(numbers, (window,), length))
    runs, count, predictions = wanted.shape
    whole = _Beginning(tuple(range(runs)), tuple(range(count)), predictions + 1)
    yield from parts if sum(map(_cost, parts)) <= _NEXT_TO_NOTHING * _cost(whole) else [whole]


def _cost(part: _Beginning) -> int:
    return len(part.interventions) * len(part.windows) * part.length


def _alike(lengths: Sequence[int], share: float, least: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Places of lengths above 0 in groups, each with its longest, longest first.

    Args:
        lengths: the lengths.
        share: a group holds lengths of at least this share of its longest,
        least: and shorter ones until it has this many positions.
    """
    order = sorted((place for place, length in enumerate(lengths) if length), key=lambda place: -lengths[place])
    while order:
        longest = lengths[order[0]]
        size = sum(lengths[place] >= share * longest for place in order)
        size = max(size, -(-least // longest))
        if len(order) - size < size // 4:  # too few for a batch of their own
            size = len(order)
        yield tuple(sorted(order[:size])), longest
        order = order[size:]


@dataclass
class _Rows:
    """What was computed of wanted predictions, one row each, so that lines of downstream heads take little memory.

    Attributes:
        clean: the clean run of the batch.
        interventions: the runs.
        wanted: bool [intervention, window, P].
    """

    clean: CleanRun
    interventions: Sequence[Intervention]
    wanted: Tensor
    _taken: dict[Intervention, list[tuple[Tensor, dict[str, Tensor]]]] = field(default_factory=dict)

    def take(self, ledger: Ledger, part: _Beginning) -> None:
        """Keeps the wanted predictions of a chunk of some beginnings."""
        numbers = {self.interventions[number]: number for number in part.interventions}
        windows = torch.tensor(part.windows, device=self.wanted.device)
        for row, intervention in enumerate(ledger.interventions):
            chosen = self.wanted[numbers[intervention]][windows, : part.length - 1]
            window, position = chosen.nonzero(as_tuple=True)
            values = {
                name: value[row][window, position]
                for name, value in ((item.name, getattr(ledger, item.name)) for item in fields(Ledger))
                if isinstance(value, Tensor)
            }
            self._taken.setdefault(intervention, []).append((torch.stack([windows[window], position]), values))

    def ledger(self, group: Sequence[Intervention], anatomy: Anatomy, per_component: bool) -> Ledger:
        """The ledger of some interventions, which start in the same layer; lets go of their rows.

        Args:
            group: the interventions.
            anatomy: the model's parts.
            per_component: whether it has lines of single components.
        """
        values = unknown_values(anatomy, self.clean, len(group), per_component)
        values["direct_effect"] = direct_effects(self.clean, group)
        for row, intervention in enumerate(group):
            for (window, position), taken in self._taken.pop(intervention, ()):
                for name, computed in taken.items():
                    values[name][row, window, position] = computed
        return ledger_of(group, values)
