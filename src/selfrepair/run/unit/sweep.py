"""The sweep of one unit of work: every head ablated in turn over every batch of its windows, booked as it comes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfrepair.ablation.interventions import Intervention, by_start, each, ports_of
from selfrepair.ablation.operators import Operator, Source, Unchanged
from selfrepair.ablation.sites import Site, usual_sites
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.beginnings import beginning_of, sweep_wanted
from selfrepair.engine.clean import CleanRun, clean_run, require_own_forward
from selfrepair.engine.contract import Replacement
from selfrepair.engine.own_position import OwnPositionEngine
from selfrepair.errors import SelfRepairError
from selfrepair.model.anatomy import Anatomy
from selfrepair.model.ports import Port
from selfrepair.progress import Advance, ignore
from selfrepair.run.planning.batch_size import real_tokens, tokens_of
from selfrepair.run.planning.job import Job
from selfrepair.run.storage.unit_file import Arrays
from selfrepair.run.unit.chosen_predictions import Chosen, chosen_predictions
from selfrepair.run.unit.engine_error import ErrorSample
from selfrepair.run.unit.exactness import Accuracy, largest_error, ledger_rounding
from selfrepair.run.unit.operator_inputs import BatchSource
from selfrepair.run.unit.sums import UnitSums
from selfrepair.run.unit.token_effects import token_effects

STAGE = "sweep"
_FLOOR_HEADS = 5  # layers, spread over the model, two heads of which are ablated with their own output


class CutShort(BaseException):
    """A sweep that ended early; its cause is the error or interruption.

    Attributes:
        number: the unit under way.
        arrays: its results so far.
    """

    def __init__(self, number: int, arrays: Arrays) -> None:
        super().__init__()
        self.number, self.arrays = number, arrays


def sweep_unit(job: Job, number: int, surveyed: Arrays, advance: Advance) -> Arrays:
    """Ablates all heads over a unit's windows.

    Args:
        job: the run.
        number: number of the unit.
        surveyed: from `selfrepair.run.unit.thresholds.thresholds`.
        advance: called with work done, see `work`.

    Returns:
        See `selfrepair.run.unit.sums.UnitSums.arrays`.

    Raises:
        CutShort: from the error that ended it; heads that had not been reached have lower counts.
    """
    book, accuracy = UnitSums(job, number, surveyed), Accuracy()
    try:
        with job.model.running():
            for index, windows in enumerate(job.batches(number)):
                probed = index == 0 and job.is_probed(number)
                _sweep_batch(job, windows, surveyed, book, accuracy, index == 0, probed, advance)
    except BaseException as problem:
        raise CutShort(number, book.arrays() | accuracy.arrays()) from problem
    return book.arrays() | accuracy.arrays()


def work(job: Job) -> int:
    """The amount of work in a sweep: blocks replayed, times windows; a surrogate's is left out."""
    blocks = sum(job.model.anatomy.layers - head.layer for head in job.heads)
    windows = len(job.windows) if job.plan["phases"] is None else int(job.counted.any(1).sum())
    return blocks * job.operator.draws * windows


def _sweep_batch(
    job: Job,
    windows: np.ndarray,
    surveyed: Arrays,
    book: UnitSums,
    accuracy: Accuracy,
    first: bool,
    probed: bool,
    advance: Advance,
) -> None:
    tokens = tokens_of(job.windows, windows, job.model)
    probes = each(_floor_sites(job.model.anatomy)) if probed else []
    clean = clean_run(job.model, tokens, ports=ports_of([*job.interventions, *probes]))
    if first:
        require_own_forward(job.model, clean, real_tokens(job.windows, windows, job.model))
    source = BatchSource(job, surveyed, windows)
    of_tokens, of_all = job.surrogates
    chosen = chosen_predictions(job, surveyed, clean, windows) if job.sparse or of_tokens else None
    if of_tokens is not None and chosen is not None:
        for ledgers in _draws(job, clean, source, partial(_by_surrogate, job, clean, chosen)):
            book.add_surrogate(token_effects(ledgers, clean, windows, job.components, job.cells))
    if of_all is not None and book.whole is not None:
        in_place = [partial(replacement, job.operator, clean, source, draw) for draw in range(job.operator.draws)]
        book.whole.add(of_all, clean, windows, in_place)
    if not job.counted[windows].any():
        return
    chosen = chosen if job.sparse else None
    scored = torch.from_numpy(job.counted[windows]).to(clean.sigma.device)
    if probed:
        accuracy.floor, accuracy.floor_excess = numerical_floor(job, clean, scored)
    sample = ErrorSample.of(job, clean, int(windows[0])) if probed else None
    if sample is not None and chosen is not None:
        sample.sweep(partial(replacement, job.operator, clean, source, 0))
    for ledgers in _draws(job, clean, source, partial(_by_engine, job, clean, chosen, advance)):
        for ledger in ledgers:
            accuracy.check(ledger, clean, scored if chosen is None else chosen.of(ledger.interventions))
        if sample is not None and chosen is None:
            sample.see(ledgers[0])
        book.add(token_effects(ledgers, clean, windows, job.components, job.cells))
    if sample is not None:
        accuracy.sampled(sample.compared(partial(replacement, job.operator, clean, source, 0)))


def _floor_sites(anatomy: Anatomy) -> list[Site]:
    """The first and the last head, or mixer of a model without heads, of some layers of all depths."""
    sites = usual_sites(anatomy)
    having = list(sites)
    layers = sorted({having[round(i * (len(having) - 1) / (_FLOOR_HEADS - 1))] for i in range(_FLOOR_HEADS)})
    return list(dict.fromkeys(site for layer in layers for site in (sites[layer][0], sites[layer][-1])))


def numerical_floor(job: Job, clean: CleanRun, scored: Tensor) -> tuple[float, float]:
    """Largest total effect of heads, or mixers of models without heads, ablated with their own clean output, below
    which effects mean nothing; and the largest ratio to what rounding may leave. Infinite if the engine leaves some
    out."""
    if job.sparse:  # a whole batch would be dear beside the few predictions that are measured
        first = int(scored.any(-1).nonzero()[0])
        clean, scored = beginning_of(clean, [first]), scored[first : first + 1]
    chosen = each(_floor_sites(job.model.anatomy))
    in_place = partial(replacement, Unchanged(), clean, _Nothing(), 0)
    ledgers = list(_by_engine(job, clean, None, ignore, chosen, in_place))
    if {intervention for ledger in ledgers for intervention in ledger.interventions} != set(chosen):
        return math.inf, math.inf
    effects = torch.cat([ledger.total_effect for ledger in ledgers])[:, scored]
    return largest_error(effects), largest_error(effects / ledger_rounding(clean)[scored])


Sweeping = Callable[[Sequence[Intervention], Replacement], Iterator[Ledger]]
"""Ledgers of some interventions with these replacements."""


def _by_engine(
    job: Job,
    clean: CleanRun,
    chosen: Chosen | None,
    advance: Advance,
    interventions: Sequence[Intervention],
    in_place: Replacement,
) -> Iterator[Ledger]:
    """Ledgers by the run's engine; of chosen predictions only, where no others are needed."""
    by_head = job.components == "heads"
    if chosen is None:
        yield from job.engine.sweep(job.model, clean, interventions, in_place, by_head, advance)
        return
    wanted = chosen.of(interventions)
    if isinstance(job.engine, OwnPositionEngine):
        yield from job.engine.sweep(job.model, clean, interventions, in_place, by_head, advance, wanted)
    else:
        yield from sweep_wanted(job.engine, job.model, clean, interventions, in_place, by_head, wanted, advance)


def _by_surrogate(
    job: Job, clean: CleanRun, chosen: Chosen, interventions: Sequence[Intervention], in_place: Replacement
) -> Iterator[Ledger]:
    """Ledgers by the run's surrogate, of as many interventions at a time as memory holds."""
    surrogate = job.surrogates.tokens
    assert surrogate is not None
    most, by_head = job.plan["runs_held"], job.components == "heads"
    for start in range(0, len(interventions), most):
        part = interventions[start : start + most]
        yield from surrogate.sweep(job.model, clean, part, in_place, by_head, chosen.of(part))


def _draws(job: Job, clean: CleanRun, source: Source, sweeping: Sweeping) -> Iterator[list[Ledger]]:
    """Lists of ledgers of the same interventions, one per draw."""

    def one_draw(interventions: Sequence[Intervention], draw: int) -> Iterator[Ledger]:
        yield from sweeping(interventions, partial(replacement, job.operator, clean, source, draw))

    if job.operator.draws == 1:
        for ledger in one_draw(job.interventions, 0):
            yield [ledger]
        return
    for _, group in by_start(job.interventions):
        yield [_joined(list(one_draw(group, draw))) for draw in range(job.operator.draws)]


def replacement(operator: Operator, clean: CleanRun, source: Source, draw: int, port: Port) -> Tensor:
    """An operator's replacement for a port's outputs, [window, position, entry, size].

    Raises:
        SelfRepairError: it is of another shape, or not finite.
    """
    outputs = clean.outputs_at(port)
    replaced = operator.replacement(port, outputs, source, draw)
    if replaced.shape != outputs.shape or not torch.isfinite(replaced).all():
        raise SelfRepairError(
            f"The operator '{operator.name}' has to return finite outputs of shape {tuple(outputs.shape)} "
            f"(window, position, head, head_dim); it gave {tuple(replaced.shape)}.",
            "Fix its `replacement`; see `selfrepair.ablation.operators.Operator`.",
        )
    return replaced


def _joined(ledgers: list[Ledger]) -> Ledger:
    """Chunks of interventions that start in one layer as one ledger."""
    tensors: dict[str, Any] = {
        field.name: torch.cat([getattr(ledger, field.name) for ledger in ledgers])
        for field in fields(Ledger)
        if isinstance(getattr(ledgers[0], field.name), Tensor)
    }
    interventions = tuple(intervention for ledger in ledgers for intervention in ledger.interventions)
    return replace(ledgers[0], interventions=interventions, **tensors)


class _Nothing:
    """A source for operators that need none."""

    def mean(self, port: Port) -> Tensor:
        raise NotImplementedError

    def position_mean(self, port: Port) -> Tensor:
        raise NotImplementedError

    def donor(self, port: Port, draw: int) -> Tensor:
        raise NotImplementedError
