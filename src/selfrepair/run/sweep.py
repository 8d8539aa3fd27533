"""The sweep: every unit ablated in turn over every batch of windows, booked as it comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfrepair.ablation.operators import Operator, Source, Unchanged
from selfrepair.ablation.units import Head, by_layer
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.clean import CleanRun, clean_run
from selfrepair.engine.contract import Engine
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.progress import progress
from selfrepair.run.batches import batches, tokens_of
from selfrepair.run.effects import token_effects
from selfrepair.run.sources import BatchSource
from selfrepair.run.survey import Survey
from selfrepair.statistics.accumulate import Components, DocumentSums
from selfrepair.statistics.keep import KeptTokens
from selfrepair.text import Windows

_FLOOR_HEADS = 5  # heads, spread over the layers, that are ablated with their own output


@dataclass(frozen=True)
class Design:
    """What a sweep does, apart from where its results go.

    Attributes:
        donors: [window, donor] donor windows.
        first: first position that statistics count.
    """

    model: LanguageModel
    windows: Windows
    operator: Operator
    donors: np.ndarray
    engine: Engine
    units: Sequence[Head]
    batch: int
    components: Components
    first: int


@dataclass
class Accuracy:
    """How exact a sweep has been, in logits, over all tokens it scored.

    Attributes:
        residual: largest amount by which a ledger failed to close.
        excess: largest residual over what rounding may leave on that token; above 1 the ledger does not close.
        floor: largest effect of a head ablated with its own clean output; None before it was measured.
    """

    residual: float = 0.0
    excess: float = 0.0
    floor: float | None = None

    @property
    def closes(self) -> bool:
        """Whether every ledger closed to rounding."""
        return self.excess <= 1.0


def sweep(
    design: Design,
    surveyed: Survey,
    sums: DocumentSums,
    kept: KeptTokens,
    accuracy: Accuracy,
    shown: bool = True,
) -> None:
    """Runs the whole design; `sums`, `kept` and `accuracy` are up to date after every chunk.

    They stay valid when this is interrupted: heads that had not been reached have lower counts.
    """
    blocks = sum(design.model.anatomy.layers - unit.layer for unit in design.units)
    work = blocks * design.operator.draws * len(design.windows)
    with progress("Sweep (ablated runs)", work, shown) as advance, design.model.running():
        for indices in batches(design.windows, design.batch):
            clean = clean_run(design.model, tokens_of(design.windows, indices, design.model))
            scored = torch.from_numpy(design.windows.scored(design.first)[indices]).to(clean.logit.device)
            if accuracy.floor is None:
                accuracy.floor = numerical_floor(design, clean, scored)
            source = BatchSource(design.model, design.windows, surveyed, design.donors[indices])
            for ledgers in _draws(design, clean, source):
                for ledger in ledgers:
                    _check(ledger, clean, scored, accuracy)
                effects = token_effects(ledgers, indices, design.components)
                sums.add(effects)
                kept.add(effects)
                done = design.model.anatomy.layers - effects.layer
                advance(done * len(effects.heads) * len(ledgers) * len(indices))


def numerical_floor(design: Design, clean: CleanRun, scored: Tensor) -> float:
    """Largest total effect of heads ablated with their own clean output; what is below it means nothing."""
    anatomy = design.model.anatomy
    layers = sorted({round(i * (anatomy.layers - 1) / (_FLOOR_HEADS - 1)) for i in range(_FLOOR_HEADS)})
    units = [Head(layer, head) for layer in layers for head in (0, anatomy.blocks[layer].heads - 1)]
    unchanged = replace(design, units=units, operator=Unchanged())
    effects = [ledger.total_effect for ledger in _one_draw(unchanged, clean, units, _Nothing(), 0)]
    return max(float(effect[:, scored].abs().max()) for effect in effects)


def _draws(design: Design, clean: CleanRun, source: Source) -> Iterator[list[Ledger]]:
    """Lists of ledgers of the same heads, one per draw."""
    if design.operator.draws == 1:
        for ledger in _one_draw(design, clean, design.units, source, 0):
            yield [ledger]
        return
    for layer, heads in by_layer(design.units):
        units = [Head(layer, head) for head in heads]
        draws = range(design.operator.draws)
        yield [_joined(list(_one_draw(design, clean, units, source, draw))) for draw in draws]


def _one_draw(design: Design, clean: CleanRun, units: Sequence[Head], source: Source, draw: int) -> Iterator[Ledger]:
    def replacement(layer: int) -> Tensor:
        outputs = clean.head_outputs[layer]
        found = design.operator.replacement(layer, outputs, source, draw)
        if found.shape != outputs.shape or not torch.isfinite(found).all():
            raise SelfRepairError(
                f"The operator '{design.operator.name}' has to return finite outputs of shape "
                f"{tuple(outputs.shape)} (window, position, head, head_dim); it gave {tuple(found.shape)}.",
                "Mend its `replacement`; see `selfrepair.ablation.operators.Operator`.",
            )
        return found

    yield from design.engine.sweep(design.model, clean, units, replacement, design.components == "heads")


def _joined(ledgers: list[Ledger]) -> Ledger:
    """Chunks of one layer's heads as one ledger."""
    tensors: dict[str, Any] = {
        field.name: torch.cat([getattr(ledger, field.name) for ledger in ledgers])
        for field in fields(Ledger)
        if isinstance(getattr(ledgers[0], field.name), Tensor)
    }
    heads = tuple(head for ledger in ledgers for head in ledger.heads)
    return replace(ledgers[0], heads=heads, **tensors)


def _check(ledger: Ledger, clean: CleanRun, scored: Tensor, accuracy: Accuracy) -> None:
    """Books how well a chunk's ledgers close, token by token.

    Rounding of a write is rounding of the residual stream it is added to; what that is worth in logits at
    most is its norm times the direction's, and it happens twice a layer.
    """
    precision = torch.finfo(clean.logit.dtype).eps
    stream = torch.stack([r[:, :-1].norm(dim=-1) for r in clean.residuals]).amax(0)
    size = clean.direction.norm(dim=-1) * stream + clean.logit.abs() + 1
    allowed = 8 * len(clean.residuals) * precision * size
    residual = ledger.residual.abs()[:, scored]
    residual = torch.where(torch.isfinite(residual), residual, torch.inf)
    accuracy.residual = max(accuracy.residual, float(residual.max()))
    accuracy.excess = max(accuracy.excess, float((residual / allowed[scored]).max()))


class _Nothing:
    """A source for operators that draw on nothing."""

    def mean(self, layer: int) -> Tensor:
        raise NotImplementedError

    def position_mean(self, layer: int) -> Tensor:
        raise NotImplementedError

    def donor(self, layer: int, draw: int) -> Tensor:
        raise NotImplementedError
